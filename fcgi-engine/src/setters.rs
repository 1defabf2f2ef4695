//! How the methods are written that adapters of both kinds have.

/// Builder methods that set one field each. `name(limit) { self.field }` takes a time limit or
/// `None`; with `limit or MAX` the field holds the longest time instead of `None`.
#[doc(hidden)]
#[macro_export]
macro_rules! setters {
    () => {};
    ($(#[$meta:meta])* $name:ident(limit) { self.$($field:ident).+ } $($rest:tt)*) => {
        $crate::setters! {
            $(#[$meta])*
            $name(limit: impl Into<Option<::std::time::Duration>>) {
                self.$($field).+ = limit.into()
            }
            $($rest)*
        }
    };
    ($(#[$meta:meta])* $name:ident(limit or MAX) { self.$($field:ident).+ } $($rest:tt)*) => {
        $crate::setters! {
            $(#[$meta])*
            $name(limit: impl Into<Option<::std::time::Duration>>) {
                self.$($field).+ = limit.into().unwrap_or(::std::time::Duration::MAX)
            }
            $($rest)*
        }
    };
    (
        $(#[$meta:meta])*
        $name:ident($value:ident: $type:ty) { self.$($field:ident).+ = $stored:expr }
        $($rest:tt)*
    ) => {
        $(#[$meta])*
        #[must_use]
        pub fn $name(mut self, $value: $type) -> Self {
            self.$($field).+ = $stored;
            self
        }

        $crate::setters! { $($rest)* }
    };
}

/// The last part of a method's documentation: what happens if its future is dropped. A method that
/// blocks has none.
#[doc(hidden)]
#[macro_export]
macro_rules! dropping {
    (async $what:literal) => {
        concat!("\n# Cancellation safety\n", $what)
    };
}
