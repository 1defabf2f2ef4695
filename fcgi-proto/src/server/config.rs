//! How the application's end of a connection behaves.

use crate::{Limits, Role, Values};

/// The roles that an application supports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roles(u8);

impl Roles {
    /// Responder, Authorizer and Filter.
    pub const ALL: Self = Self(0b111);
    /// Responder only.
    pub const RESPONDER: Self = Self::of(Role::Responder);

    /// One role; join several with [`and`](Self::and).
    #[must_use]
    pub const fn of(role: Role) -> Self {
        Self(1 << (role.as_u16() - 1))
    }

    /// These roles and one more.
    #[must_use]
    pub const fn and(self, role: Role) -> Self {
        Self(self.0 | Self::of(role).0)
    }

    /// Whether the role is among them.
    #[must_use]
    pub const fn contains(self, role: Role) -> bool {
        self.0 & Self::of(role).0 != 0
    }
}

/// How a [`ServerConnection`](super::ServerConnection) behaves.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Default [`Limits::server`].
    pub limits: Limits,
    /// The roles offered; other requests get UNKNOWN_ROLE (FC-5.1-2). Default all three.
    pub roles: Roles,
    /// The values of FCGI_MAX_CONNS and FCGI_MAX_REQS with which GET_VALUES is answered; the code
    /// that accepts connections knows them (FC-4.1-2). `None`, the default, omits a name.
    /// FCGI_MPXS_CONNS always follows [`Limits::requests`].
    pub values: Values,
    /// Whether a Responder's rejection comes with a short `Status: 503` on STDOUT. Some web servers
    /// turn a bare OVERLOADED into an empty 200 (W-2). Default true.
    pub rejection_body: bool,
    /// Whether a request that [fails](super::Request::fail) before anything was written gets a short
    /// `Status: 500` on STDOUT. Some web servers turn such an end into an empty 200 (W-15). Default
    /// true.
    pub failure_body: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            limits: Limits::server(),
            roles: Roles::ALL,
            values: Values::default(),
            rejection_body: true,
            failure_body: true,
        }
    }
}
