//! What a path stands for: a script, a file, or nothing.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use fcgi_tokio::http::{FileKind, Mount, Script, ScriptError, ScriptMap, Target};

use super::Gateway;

/// The scripts and files that are served.
#[derive(Debug)]
pub(super) struct Site {
    /// As the command line has it, for messages.
    shown: Option<PathBuf>,
    /// Absolute, without links.
    root: Option<PathBuf>,
    map: Option<ScriptMap>,
    mount: Option<Mount>,
    check: bool,
    follow_links: bool,
}

/// What serves a request.
#[derive(Debug)]
pub(super) enum Found {
    /// The application.
    Script(Script),
    /// A file that is no script.
    File(PathBuf),
    /// A directory without the slash: the path with it, encoded.
    Redirect(String),
}

impl Site {
    pub(super) fn new(options: &Gateway) -> anyhow::Result<Self> {
        let is_sample = options.address.is_none() && !options.php;
        let mount = match &options.mount {
            Some(prefix) => Some(prefix.trim_end_matches('/')),
            None if is_sample => Some(""),
            None => None,
        };
        let mut site = Self {
            shown: None,
            root: None,
            map: None,
            mount: mount.map(Mount::new).transpose()?,
            check: !options.no_check,
            follow_links: options.follow_links,
        };
        let root = match &options.root {
            None if mount.is_some() => return Ok(site),
            None => Path::new("."),
            Some(root) => root,
        };
        let context = || format!("root {}", root.display());
        let real = match fs::canonicalize(root) {
            Ok(real) => real,
            // Its files are elsewhere: all that is asked of it here is its name.
            Err(error) if error.kind() == io::ErrorKind::NotFound && options.no_check => {
                ensure!(root.is_absolute(), "{}: not here, and no absolute path", context());
                root.to_owned()
            }
            Err(error) => return Err(error).with_context(context),
        };
        ensure!(real.is_dir() || options.no_check, "{}: not a directory", context());

        let seen = options.app_root.as_ref().unwrap_or(&real);
        let mut map = ScriptMap::builder(seen.as_os_str().as_bytes())
            .local_root(real.as_os_str().as_bytes())
            .index(options.index.iter().map(|name| name.as_bytes()))
            .split_path_info(options.split.iter().map(|suffix| suffix.as_bytes()));
        if let Some(front) = &options.front {
            map = map.front_controller(format!("/{}", front.trim_start_matches('/')));
        }
        site.map = Some(map.build().with_context(context)?);
        site.shown = Some(root.to_owned());
        site.root = Some(real);
        Ok(site)
    }

    pub(super) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// What is served, for people.
    pub(super) fn describe(&self, application: &str) -> String {
        match (&self.shown, &self.mount) {
            (None, _) => application.to_owned(),
            (Some(root), None) => {
                format!("{}, its scripts run by {application}", root.display())
            }
            (Some(root), Some(_)) => format!("{} and {application}", root.display()),
        }
    }

    /// What serves the path of a URL. It asks the file system.
    ///
    /// # Errors
    /// The path is refused, or nothing serves it.
    pub(super) fn find(&self, path: &str) -> Result<Found, ScriptError> {
        let mounted = self.mount.as_ref().map(|mount| mount.resolve(path));
        let filed = self.map.as_ref().map(|map| map.resolve(path, |name| self.kind(name)));
        match (filed, mounted) {
            // Only a file takes a path from the application: what is refused here may be fine there.
            (Some(Ok(Target::File { file_name })), _) => {
                Ok(Found::File(as_path(&file_name).into()))
            }
            (_, Some(Ok(script))) => Ok(Found::Script(script)),
            (Some(Ok(Target::Redirect { location })), _) => Ok(Found::Redirect(location)),
            (Some(Ok(Target::Script(script))), None) => Ok(Found::Script(script)),
            (Some(Err(ScriptError::NotFound)), None) if !self.check => {
                let map = self.map.as_ref().ok_or(ScriptError::NotFound)?;
                map.resolve_unseen(path).map(Found::Script)
            }
            (Some(Err(error)), _) | (None, Some(Err(error))) => Err(error),
            _ => Err(ScriptError::NotFound),
        }
    }

    fn kind(&self, name: &[u8]) -> FileKind {
        let (Some(root), Ok(real)) = (&self.root, fs::canonicalize(as_path(name))) else {
            return FileKind::Missing;
        };
        if !self.follow_links && !real.starts_with(root) {
            return FileKind::Missing;
        }
        match fs::metadata(real) {
            Ok(metadata) if metadata.is_file() => FileKind::File,
            Ok(metadata) if metadata.is_dir() => FileKind::Directory,
            // A pipe or a device could be read for ever.
            _ => FileKind::Missing,
        }
    }
}

fn as_path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}
