//! Scripts in files below a document root.

use super::{EncodedSlashes, Script, ScriptError, ScriptMapBuilder, join, path};

/// Maps URL paths to scripts below a document root (CGI-4.1.5-1, H-14).
///
/// File names are joined with `/` and taken as bytes: it is made for systems whose names are so.
#[derive(Clone, Debug)]
pub struct ScriptMap {
    pub(super) document_root: Vec<u8>,
    pub(super) local_root: Vec<u8>,
    pub(super) index: Vec<Vec<u8>>,
    pub(super) suffixes: Vec<Vec<u8>>,
    pub(super) front_controller: Option<Vec<u8>>,
    pub(super) front_path_info: bool,
    pub(super) encoded_slashes: EncodedSlashes,
    pub(super) hidden_files: bool,
}

/// What a file name is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A file that may be served or run, links followed.
    File,
    /// A directory.
    Directory,
    /// Neither, or nothing, or not to be seen.
    Missing,
}

/// What serves a path.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Target {
    /// A script: send a request with these names.
    Script(Script),
    /// A file that is no script: for the web server to send, or to refuse; never to run.
    File {
        /// Its name below the local root.
        file_name: Vec<u8>,
    },
    /// A directory without the slash: answer 301 with this Location and the request's query.
    Redirect {
        /// The path with the slash, encoded; it starts with exactly one slash.
        location: String,
    },
}

impl ScriptMap {
    /// A map of the scripts below `document_root`, which is where the application sees them.
    ///
    /// Defaults: scripts end with `.php`, the index is `index.php`, no front controller, encoded
    /// slashes and hidden files are refused.
    #[must_use]
    pub fn builder(document_root: impl Into<Vec<u8>>) -> ScriptMapBuilder {
        ScriptMapBuilder::new(document_root.into())
    }

    /// What serves the path of a URL, as [`http::Uri::path`] gives it. `kind` is asked about file
    /// names below the local root: the candidates for the split, from the left and no further than
    /// the first that is missing; then the index names; then the front controller.
    ///
    /// A file whose name ends like a script's but for the case of its letters is never a
    /// [`Target::File`]: on a file system without case it would show a script's source.
    ///
    /// # Errors
    /// The path is refused, or nothing serves it.
    pub fn resolve(
        &self,
        path: &str,
        mut kind: impl FnMut(&[u8]) -> FileKind,
    ) -> Result<Target, ScriptError> {
        let path = path::decode(path, self.encoded_slashes)?;
        let mut kind = |name: &[u8]| kind(&join(&self.local_root, name));
        for end in self.splits(&path) {
            let (name, info) = path.split_at(end);
            self.check_hidden(name)?;
            match kind(name) {
                FileKind::File => return Ok(Target::Script(self.script(name, info))),
                FileKind::Directory => {}
                FileKind::Missing => return self.front(&path, kind),
            }
        }
        self.check_hidden(&path)?;
        if path.ends_with(b"/") {
            for index in &self.index {
                let name = [&path[..], index].concat();
                if kind(&name) == FileKind::File {
                    return Ok(self.file(&name));
                }
            }
            return self.front(&path, kind);
        }
        match kind(&path) {
            FileKind::File if self.ends_like_script(&path) => self.front(&path, kind),
            FileKind::File => Ok(self.file(&path)),
            FileKind::Directory => {
                let mut location = String::with_capacity(path.len() + 1);
                path::encode(&path, &mut location);
                location.push('/');
                Ok(Target::Redirect { location })
            }
            FileKind::Missing => self.front(&path, kind),
        }
    }

    /// [`resolve`](Self::resolve) where the files can't be seen, as those of an application on
    /// another machine: the first segment that ends with a suffix is the script; everything else
    /// goes to the front controller or, without one and with a slash at the end, to the first
    /// index.
    ///
    /// # Errors
    /// Those of `resolve`; and [`Ambiguous`](ScriptError::Ambiguous) when a directory's name before
    /// the script has a dot, since it may be a file that the application would run instead.
    pub fn resolve_unseen(&self, path: &str) -> Result<Script, ScriptError> {
        let path = path::decode(path, self.encoded_slashes)?;
        let split = self.splits(&path).next();
        self.check_hidden(split.map_or(&path[..], |end| &path[..end]))?;
        if let Some(end) = split {
            let (name, info) = path.split_at(end);
            check_directories(name)?;
            return Ok(self.script(name, info));
        }
        match (&self.front_controller, self.index.first()) {
            (Some(front), _) => Ok(self.front_script(front, &path)),
            (None, Some(index)) if path.ends_with(b"/") => {
                let name = [&path[..], index].concat();
                check_directories(&name)?;
                Ok(self.script(&name, b""))
            }
            _ => Err(ScriptError::NotFound),
        }
    }

    /// Where segments end that end with a suffix, from the left.
    fn splits<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain([path.len()]).filter(|end| self.is_script(&path[..*end]))
    }

    /// Bytes are compared, so that no folding of case can move the split (H-14).
    fn is_script(&self, name: &[u8]) -> bool {
        self.suffixes.iter().any(|suffix| name.ends_with(suffix))
    }

    fn ends_like_script(&self, name: &[u8]) -> bool {
        self.suffixes.iter().any(|suffix| {
            let end = name.len().checked_sub(suffix.len()).map(|start| &name[start..]);
            end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        })
    }

    fn check_hidden(&self, name: &[u8]) -> Result<(), ScriptError> {
        if !self.hidden_files && path::has_hidden_segment(name) {
            return Err(ScriptError::Hidden);
        }
        Ok(())
    }

    fn file(&self, name: &[u8]) -> Target {
        if self.is_script(name) {
            Target::Script(self.script(name, b""))
        } else {
            Target::File { file_name: join(&self.local_root, name) }
        }
    }

    fn front(
        &self,
        path: &[u8],
        mut kind: impl FnMut(&[u8]) -> FileKind,
    ) -> Result<Target, ScriptError> {
        match &self.front_controller {
            Some(front) if kind(front) == FileKind::File => {
                Ok(Target::Script(self.front_script(front, path)))
            }
            _ => Err(ScriptError::NotFound),
        }
    }

    fn front_script(&self, front: &[u8], path: &[u8]) -> Script {
        self.script(front, if self.front_path_info { path } else { b"" })
    }

    fn script(&self, name: &[u8], info: &[u8]) -> Script {
        Script {
            script_name: name.to_vec(),
            path_info: info.to_vec(),
            script_filename: Some(join(&self.document_root, name)),
            document_root: Some(self.document_root.clone()),
        }
    }
}

/// `/x.jpg/y.php` reaches `x.jpg` in a php with `cgi.fix_pathinfo=1`.
fn check_directories(script: &[u8]) -> Result<(), ScriptError> {
    let directories = script.iter().rposition(|byte| *byte == b'/').map(|end| &script[..end]);
    if directories.is_some_and(|names| names.contains(&b'.')) {
        return Err(ScriptError::Ambiguous);
    }
    Ok(())
}
