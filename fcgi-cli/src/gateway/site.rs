//! What a path stands for: a script, a file, or nothing.

use std::{
    cell::RefCell,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{self, Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, anyhow, bail, ensure};
use fcgi_http::script::{
    EncodedSlashes, FileKind, Mount, Script, ScriptError, ScriptMap, Target, decode_path,
};
use http::HeaderMap;

use super::{
    coding::{Codings, is_compressed},
    deny::Deny,
    files::Sent,
    not_found::NotFound,
    options::{Options, Switch},
    root::{Entry, Opened, Root, Unknown, Wait, as_path},
};

/// The scripts and files that are served.
#[derive(Debug)]
pub(super) struct Site {
    files: Option<Files>,
    mount: Option<Mount>,
    check: bool,
    deny: Vec<Deny>,
    /// Prefixes below which there are only files.
    only_files: Vec<Mount>,
    /// Whether to look for precompressed files.
    precompressed: bool,
    /// Nothing says what is served, so the first 404 explains `--mount`.
    explains_mount: AtomicBool,
}

/// The folder of scripts and files. Its name may lead to another folder at any time, as when it is
/// a link that is switched at a release.
#[derive(Debug)]
struct Files {
    /// As on the command line, for messages.
    shown: PathBuf,
    /// Absolute. Each request finds out where it leads.
    path: PathBuf,
    options: MapOptions,
    tree: Mutex<Arc<Tree>>,
    /// The log has said that a front controller may be missing.
    said_front: AtomicBool,
}

/// The folder that the name led to last.
#[derive(Debug)]
struct Tree {
    /// `None` if it is not on this machine.
    root: Option<Root>,
    map: ScriptMap,
    /// A map without scripts to run.
    files: ScriptMap,
}

/// The settings of a [`ScriptMap`], except the folder.
#[derive(Debug)]
struct MapOptions {
    app_root: Option<PathBuf>,
    index: Vec<String>,
    split: Vec<String>,
    front: Vec<String>,
    front_path_info: bool,
    follow_links: bool,
}

/// What serves a request.
#[derive(Debug)]
pub(super) enum Found {
    /// The application.
    Script(Script),
    /// A file that is not a script.
    File(Sent),
    /// A directory without its slash: the path with it, encoded.
    Redirect(String),
}

impl MapOptions {
    /// A map for everything, and one for places with only files.
    fn maps(&self, real: &Path) -> anyhow::Result<(ScriptMap, ScriptMap)> {
        let seen = self.app_root.as_deref().unwrap_or(real);
        let mut map = ScriptMap::builder(seen.as_os_str().as_bytes())
            .local_root(real.as_os_str().as_bytes())
            .split_path_info(self.split.iter().map(|suffix| suffix.as_bytes()))
            .encoded_slashes(EncodedSlashes::AfterFiles)
            .front_controller_path_info(self.front_path_info);
        let is_script = |name: &&String| self.split.iter().any(|suffix| name.ends_with(suffix));
        let plain = self.index.iter().filter(|name| !is_script(name));
        let files = map.clone().index(plain.map(|name| name.as_bytes())).build()?;
        map = map.index(self.index.iter().map(|name| name.as_bytes()));
        for front in &self.front {
            map = map.front_controller(format!("/{}", front.trim_start_matches('/')));
        }
        Ok((map.build()?, files))
    }

    fn tree(&self, path: &Path) -> anyhow::Result<Tree> {
        let root = Root::open(path, self.follow_links)?;
        let (map, files) = self.maps(root.path())?;
        Ok(Tree { map, files, root: Some(root) })
    }
}

impl Files {
    fn new(options: &Options, shown: &Path) -> anyhow::Result<Self> {
        let path = path::absolute(shown)?;
        let map = MapOptions {
            app_root: options.app_root.clone(),
            index: options.index.clone(),
            split: options.split.clone(),
            front: options.front.clone(),
            front_path_info: options.front_path_info,
            follow_links: options.follow_links,
        };
        let tree = match fs::metadata(&path) {
            // Its files are elsewhere; only its name is needed here.
            Err(error) if error.kind() == io::ErrorKind::NotFound && options.no_check => {
                ensure!(shown.is_absolute(), "not here, and no absolute path");
                let (map, files) = map.maps(&path)?;
                Tree { root: None, map, files }
            }
            Err(error) => return Err(Self::missing(&path, error)),
            Ok(metadata) => {
                ensure!(metadata.is_dir(), "not a directory");
                let tree = map.tree(&path)?;
                if !options.no_check {
                    tree.check_fronts(&map.front)?;
                }
                tree
            }
        };
        Ok(Self {
            shown: shown.to_owned(),
            path,
            options: map,
            tree: Mutex::new(Arc::new(tree)),
            said_front: AtomicBool::new(false),
        })
    }

    /// What is wrong with the folder's name.
    fn missing(path: &Path, error: io::Error) -> anyhow::Error {
        let there = path.ancestors().skip(1).find(|folder| folder.is_dir());
        match there {
            Some(there) if error.kind() == io::ErrorKind::NotFound => anyhow!(
                "{error}: there is no {}, only {}; use --no-check if only the application can see the \
                 scripts",
                path.display(),
                there.display()
            ),
            _ => error.into(),
        }
    }

    /// An index script in the root that is not a front controller, but may be meant to answer such
    /// a path. Given once, and not for names with a dot: these look like missing files.
    fn possible_front(&self, path: &[u8], root: &Path, look: &Look<'_>) -> Option<String> {
        let MapOptions { index, split, front, .. } = &self.options;
        let name = path.rsplit(|byte| *byte == b'/').next()?;
        if !front.is_empty() || name.contains(&b'.') || self.said_front.load(Ordering::Relaxed) {
            return None;
        }
        let is_script = |name: &&String| split.iter().any(|suffix| name.ends_with(suffix));
        let is_there =
            |name: &&String| look.kind(root.join(name).as_os_str().as_bytes()) == FileKind::File;
        let found = index.iter().filter(is_script).find(is_there)?;
        (!self.said_front.swap(true, Ordering::Relaxed)).then(|| found.clone())
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
        // The folder may be gone again.
        let Ok(tree) = self.options.tree(&self.path) else { return known };
        let tree = Arc::new(tree);
        *lock() = Arc::clone(&tree);
        tree
    }
}

impl Tree {
    /// Fails if a front controller is missing: each request for it would fail too.
    fn check_fronts(&self, fronts: &[String]) -> anyhow::Result<()> {
        let Some(root) = &self.root else { return Ok(()) };
        for front in fronts {
            let below = Path::new(front.trim_start_matches('/'));
            let found = match root.look(below, Wait::Disk) {
                Ok(Entry::File(_) | Entry::Unreadable) => continue,
                Ok(Entry::Directory) => "it is a folder".to_owned(),
                Ok(Entry::Outside(link)) => {
                    let link = link.display();
                    format!("{link} is a link out of the root, which --follow-links allows")
                }
                Ok(Entry::Missing) | Err(Unknown::Wait) => "there is no such file".to_owned(),
                Err(Unknown::Failed(error)) => error.to_string(),
            };
            bail!("front controller {front}: {found}");
        }
        Ok(())
    }
}

/// A look-up in progress.
struct Look<'a> {
    tree: &'a Tree,
    wait: Wait,
    failed: RefCell<Option<NotFound>>,
    outside: RefCell<Option<PathBuf>>,
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
            Ok(Entry::Outside(link)) => {
                self.outside.borrow_mut().get_or_insert(link);
                FileKind::Missing
            }
            Err(unknown) => {
                *self.failed.borrow_mut() = Some(match unknown {
                    Unknown::Wait => NotFound::Wait,
                    Unknown::Failed(error) => NotFound::Failed(error),
                });
                FileKind::Missing
            }
        }
    }

    fn opened(&self, name: &[u8]) -> Option<Opened> {
        self.opened.take().filter(|(found, _)| found == name).map(|(_, opened)| opened)
    }

    /// The file, or a precompressed version that the client prefers.
    fn sent(&self, name: &[u8], codings: Codings, precompressed: bool) -> Sent {
        let mut sent = Sent {
            path: as_path(name).to_owned(),
            opened: self.opened(name),
            coding: None,
            varies: false,
        };
        if !precompressed || sent.opened.is_none() || is_compressed(&sent.path) {
            return sent;
        }
        sent.varies = true;
        for coding in codings.iter() {
            let name = [name, coding.suffix().as_bytes()].concat();
            if self.kind(&name) == FileKind::File {
                if let Some(opened) = self.opened(&name) {
                    (sent.opened, sent.coding) = (Some(opened), Some(coding));
                    break;
                }
            }
        }
        sent
    }
}

impl Site {
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let is_sample = options.address.is_empty() && !options.php && options.spawn.is_none();
        let mount = match &options.mount {
            Some(mount) => Some(mount.clone()),
            None if is_sample => Some(Mount::new("")?),
            None => None,
        };
        let root = match &options.root {
            None if mount.is_some() => None,
            None => Some(Path::new(".")),
            Some(root) => Some(&**root),
        };
        let is_unsaid = root.is_some() && options.root.is_none();
        let explains_mount = is_unsaid && !options.php && options.front.is_empty();
        let files = root.map(|root| {
            Files::new(options, root).with_context(|| format!("root {}", root.display()))
        });
        Ok(Self {
            files: files.transpose()?,
            mount,
            check: !options.no_check,
            deny: options.deny.clone(),
            only_files: options.files.clone(),
            precompressed: options.precompressed == Switch::On,
            explains_mount: AtomicBool::new(explains_mount),
        })
    }

    /// Where the root is now.
    pub(super) fn root(&self) -> Option<PathBuf> {
        let files = self.files.as_ref()?;
        Some(files.tree().root.as_ref().map_or(&*files.path, Root::path).to_owned())
    }

    /// A description of what is served, for people.
    pub(super) fn describe(&self, application: &str) -> String {
        let shown = self.files.as_ref().map(|files| files.shown.display());
        match (shown, &self.mount) {
            (None, _) => application.to_owned(),
            (Some(root), None) => format!("{root}, its scripts run by {application}"),
            (Some(root), Some(_)) => format!("{root} and {application}"),
        }
    }

    /// The client's codings for which there may be files.
    pub(super) fn codings(&self, headers: &HeaderMap) -> Codings {
        match self.precompressed && self.files.is_some() {
            true => Codings::accepted(headers),
            false => Codings::default(),
        }
    }

    /// What serves the path of a URL. This asks the file system.
    ///
    /// # Errors
    /// See [`NotFound`].
    pub(super) fn find(&self, path: &str, codings: Codings, wait: Wait) -> Result<Found, NotFound> {
        self.check_denied(path)?;
        let only_files = self.only_files.iter().any(|prefix| prefix.resolve(path).is_ok());
        let tree = self.files.as_ref().map(Files::tree);
        let Some(tree) = &tree else {
            return if only_files { Err(NotFound::FilesOnly) } else { self.choose(path, None) };
        };
        let look = Look {
            tree,
            wait,
            failed: RefCell::default(),
            outside: RefCell::default(),
            opened: RefCell::default(),
        };
        let map = if only_files { &tree.files } else { &tree.map };
        let target = map.resolve(path, |name| look.kind(name));
        if let Some(failed) = look.failed.take() {
            return Err(failed);
        }
        let found = match target {
            // Checks only files: a name that is refused here may be fine for the application.
            Ok(Target::File { file_name }) => {
                if let Some(root) = tree.root.as_ref().map(Root::path) {
                    self.check_name(&file_name[root.as_os_str().len()..])?;
                }
                let sent = look.sent(&file_name, codings, self.precompressed);
                match look.failed.take() {
                    Some(failed) => Err(failed),
                    None => Ok(Found::File(sent)),
                }
            }
            Ok(Target::Redirect { location }) if only_files => Ok(Found::Redirect(location)),
            Ok(Target::Script(_)) if only_files => Err(NotFound::FilesOnly),
            Err(error) if only_files => Err(NotFound::Script(error)),
            target => self.choose(path, Some((map, target))),
        };
        match found {
            Ok(Found::Script(script)) if script.script_filename.is_some() => {
                self.check_name(&script.script_name)?;
                Ok(Found::Script(script))
            }
            Err(NotFound::Script(ScriptError::NotFound)) => {
                let why = self.why(path, &look);
                let is_known = !matches!(why, NotFound::Wait | NotFound::Failed(_));
                Err(match is_known && self.explains_mount.swap(false, Ordering::Relaxed) {
                    true => NotFound::NoMount(Box::new(why)),
                    false => why,
                })
            }
            found => found,
        }
    }

    /// Why nothing was found.
    fn why(&self, path: &str, look: &Look<'_>) -> NotFound {
        if let Some(link) = look.outside.take() {
            return NotFound::Outside(link);
        }
        if let (Some(root), Ok(path), Some(files)) =
            (&look.tree.root, decode_path(path), &self.files)
        {
            let name = [root.path().as_os_str().as_bytes(), &path].concat();
            let is_folder = path.ends_with(b"/") && look.kind(&name) == FileKind::Directory;
            if let Some(failed) = look.failed.take() {
                return failed;
            }
            if is_folder {
                return NotFound::Folder(files.options.index.clone());
            }
            let front = files.possible_front(&path, root.path(), look);
            if let Some(failed) = look.failed.take() {
                return failed;
            }
            if let Some(front) = front {
                return NotFound::NoFront(front);
            }
        }
        NotFound::Script(ScriptError::NotFound)
    }

    /// Refuses paths that the operator has denied.
    pub(super) fn check_denied(&self, path: &str) -> Result<(), NotFound> {
        if self.deny.is_empty() {
            return Ok(());
        }
        self.check_name(&decode_path(path).map_err(NotFound::Script)?)
    }

    fn check_name(&self, path: &[u8]) -> Result<(), NotFound> {
        match self.deny.iter().any(|deny| deny.denies(path)) {
            true => Err(NotFound::Denied),
            false => Ok(()),
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
