//! What a path stands for: a script, a file, or nothing.

use std::{
    cell::RefCell,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{self, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, ensure};
use fcgi_tokio::http::{FileKind, Mount, Script, ScriptError, ScriptMap, Target};

use super::{
    options::Gateway,
    root::{Entry, Opened, Root, Unknown, Wait, as_path},
};

/// The scripts and files that are served.
#[derive(Debug)]
pub(super) struct Site {
    files: Option<Files>,
    mount: Option<Mount>,
    check: bool,
}

/// The folder of scripts and files. Its name may lead to another folder at any time, as when it is
/// a link that is switched at a release.
#[derive(Debug)]
struct Files {
    /// As the command line has it, for messages.
    shown: PathBuf,
    /// Absolute; where it leads is found out for each request.
    path: PathBuf,
    options: MapOptions,
    tree: Mutex<Arc<Tree>>,
}

/// The folder that the name led to last.
#[derive(Debug)]
struct Tree {
    /// `None` when it is not on this machine.
    root: Option<Root>,
    map: ScriptMap,
}

/// What is in a [`ScriptMap`] but for the folder.
#[derive(Debug)]
struct MapOptions {
    app_root: Option<PathBuf>,
    index: Vec<String>,
    split: Vec<String>,
    front: Option<String>,
    follow_links: bool,
}

/// What serves a request.
#[derive(Debug)]
pub(super) enum Found {
    /// The application.
    Script(Script),
    /// A file that is no script. `None` when it is not ours to read.
    File(PathBuf, Option<Opened>),
    /// A directory without the slash: the path with it, encoded.
    Redirect(String),
}

/// Why nothing serves a request.
#[derive(Debug)]
pub(super) enum NotFound {
    /// The path is refused, or nothing serves it.
    Script(ScriptError),
    /// The system could not say.
    Failed(io::Error),
    /// The disk would have to be waited for.
    Wait,
}

impl MapOptions {
    fn map(&self, real: &Path) -> anyhow::Result<ScriptMap> {
        let seen = self.app_root.as_deref().unwrap_or(real);
        let mut map = ScriptMap::builder(seen.as_os_str().as_bytes())
            .local_root(real.as_os_str().as_bytes())
            .index(self.index.iter().map(|name| name.as_bytes()))
            .split_path_info(self.split.iter().map(|suffix| suffix.as_bytes()));
        if let Some(front) = &self.front {
            map = map.front_controller(format!("/{}", front.trim_start_matches('/')));
        }
        Ok(map.build()?)
    }

    fn tree(&self, path: &Path) -> anyhow::Result<Tree> {
        let root = Root::open(path, self.follow_links)?;
        Ok(Tree { map: self.map(root.path())?, root: Some(root) })
    }
}

impl Files {
    fn new(options: &Gateway, shown: &Path) -> anyhow::Result<Self> {
        let path = path::absolute(shown)?;
        let map = MapOptions {
            app_root: options.app_root.clone(),
            index: options.index.clone(),
            split: options.split.clone(),
            front: options.front.clone(),
            follow_links: options.follow_links,
        };
        let tree = match fs::metadata(&path) {
            // Its files are elsewhere: all that is asked of it here is its name.
            Err(error) if error.kind() == io::ErrorKind::NotFound && options.no_check => {
                ensure!(shown.is_absolute(), "not here, and no absolute path");
                Tree { root: None, map: map.map(&path)? }
            }
            Err(error) => return Err(error.into()),
            Ok(metadata) => {
                ensure!(metadata.is_dir(), "not a directory");
                map.tree(&path)?
            }
        };
        Ok(Self { shown: shown.to_owned(), path, options: map, tree: Mutex::new(Arc::new(tree)) })
    }

    /// The folder that the name leads to.
    fn tree(&self) -> Arc<Tree> {
        let lock = || self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        let known = Arc::clone(&lock());
        let is_known = match &known.root {
            Some(root) => root.is_at(&self.path),
            None => !self.path.is_dir(),
        };
        if is_known {
            return known;
        }
        // It may have gone again.
        let Ok(tree) = self.options.tree(&self.path) else { return known };
        let tree = Arc::new(tree);
        *lock() = Arc::clone(&tree);
        tree
    }
}

/// One look-up under way.
struct Look<'a> {
    tree: &'a Tree,
    wait: Wait,
    failed: RefCell<Option<NotFound>>,
    /// The last file that was found.
    opened: RefCell<Option<(Vec<u8>, Opened)>>,
}

impl Look<'_> {
    fn kind(&self, name: &[u8]) -> FileKind {
        let Some(root) = &self.tree.root else { return FileKind::Missing };
        let Ok(below) = as_path(name).strip_prefix(root.path()) else { return FileKind::Missing };
        if self.failed.borrow().is_some() {
            return FileKind::Missing;
        }
        match root.look(below, self.wait) {
            Ok(Entry::File(opened)) => {
                *self.opened.borrow_mut() = Some((name.to_vec(), opened));
                FileKind::File
            }
            Ok(Entry::Unreadable) => FileKind::File,
            Ok(Entry::Directory) => FileKind::Directory,
            Ok(Entry::Missing) => FileKind::Missing,
            Err(unknown) => {
                *self.failed.borrow_mut() = Some(match unknown {
                    Unknown::Wait => NotFound::Wait,
                    Unknown::Failed(error) => NotFound::Failed(error),
                });
                FileKind::Missing
            }
        }
    }

    fn opened(self, name: &[u8]) -> Option<Opened> {
        self.opened.into_inner().filter(|(found, _)| found == name).map(|(_, opened)| opened)
    }
}

impl Site {
    pub(super) fn new(options: &Gateway) -> anyhow::Result<Self> {
        let is_sample = options.address.is_none() && !options.php;
        let mount = match &options.mount {
            Some(prefix) => Some(prefix.trim_end_matches('/')),
            None if is_sample => Some(""),
            None => None,
        };
        let root = match &options.root {
            None if mount.is_some() => None,
            None => Some(Path::new(".")),
            Some(root) => Some(&**root),
        };
        let files = root.map(|root| {
            Files::new(options, root).with_context(|| format!("root {}", root.display()))
        });
        Ok(Self {
            files: files.transpose()?,
            mount: mount.map(Mount::new).transpose()?,
            check: !options.no_check,
        })
    }

    /// Where the root is now.
    pub(super) fn root(&self) -> Option<PathBuf> {
        let files = self.files.as_ref()?;
        Some(files.tree().root.as_ref().map_or(&*files.path, Root::path).to_owned())
    }

    /// What is served, for people.
    pub(super) fn describe(&self, application: &str) -> String {
        let shown = self.files.as_ref().map(|files| files.shown.display());
        match (shown, &self.mount) {
            (None, _) => application.to_owned(),
            (Some(root), None) => format!("{root}, its scripts run by {application}"),
            (Some(root), Some(_)) => format!("{root} and {application}"),
        }
    }

    /// What serves the path of a URL. It asks the file system.
    ///
    /// # Errors
    /// See [`NotFound`].
    pub(super) fn find(&self, path: &str, wait: Wait) -> Result<Found, NotFound> {
        let tree = self.files.as_ref().map(Files::tree);
        let Some(tree) = &tree else { return self.choose(path, None) };
        let (failed, opened) = (RefCell::default(), RefCell::default());
        let look = Look { tree, wait, failed, opened };
        let target = tree.map.resolve(path, |name| look.kind(name));
        if let Some(failed) = look.failed.take() {
            return Err(failed);
        }
        match target {
            // Only a file takes a path from the application: what is refused here may be fine there.
            Ok(Target::File { file_name }) => {
                let opened = look.opened(&file_name);
                Ok(Found::File(as_path(&file_name).into(), opened))
            }
            target => self.choose(path, Some((&tree.map, target))),
        }
    }

    fn choose(
        &self,
        path: &str,
        filed: Option<(&ScriptMap, Result<Target, ScriptError>)>,
    ) -> Result<Found, NotFound> {
        let mounted = self.mount.as_ref().map(|mount| mount.resolve(path));
        let found = match (filed, mounted) {
            (_, Some(Ok(script))) => Ok(Found::Script(script)),
            (Some((_, Ok(Target::Redirect { location }))), _) => Ok(Found::Redirect(location)),
            (Some((_, Ok(Target::Script(script)))), None) => Ok(Found::Script(script)),
            (Some((map, Err(ScriptError::NotFound))), None) if !self.check => {
                map.resolve_unseen(path).map(Found::Script)
            }
            (Some((_, Err(error))), _) | (None, Some(Err(error))) => Err(error),
            _ => Err(ScriptError::NotFound),
        };
        found.map_err(NotFound::Script)
    }
}
