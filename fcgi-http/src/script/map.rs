//! Scripts in files below a document root.

use super::{
    EncodedSlashes, Script, ScriptError, join,
    path::{self, folder},
};

/// Maps URL paths to scripts below a document root (CGI-4.1.5-1, H-14).
///
/// File names are joined with `/` and compared as bytes, so this is for systems with such names.
#[derive(Clone, Debug)]
pub struct ScriptMap {
    pub(super) document_root: Vec<u8>,
    pub(super) local_root: Vec<u8>,
    pub(super) index: Vec<Vec<u8>>,
    pub(super) suffixes: Vec<Vec<u8>>,
    pub(super) front_controllers: Vec<Vec<u8>>,
    pub(super) front_path_info: bool,
    pub(super) encoded_slashes: EncodedSlashes,
    pub(super) hidden_files: bool,
}

/// The kind of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FileKind {
    /// A file that may be served or run, links followed.
    File,
    /// A directory.
    Directory,
    /// Neither, or missing, or not visible.
    Missing,
}

/// What serves a path.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Target {
    /// A script: send a request with these names.
    Script(Script),
    /// A file that is not a script. The web server sends or refuses it, but never runs it.
    File {
        /// Its name below the local root.
        file_name: Vec<u8>,
    },
    /// A directory without its slash: answer 301 with this Location and the request's query.
    Redirect {
        /// The path with the slash, encoded; it starts with exactly one slash.
        location: String,
    },
}

impl ScriptMap {
    /// What serves the path of a URL, which must be in the form of [`http::Uri::path`]. `kind` is
    /// called with file names below the local root: first the candidates for the split, from the
    /// left up to the first one that is missing; then the index names; then the front controller.
    ///
    /// A file whose name differs from a script's only in the case of its suffix is never a
    /// [`Target::File`]: on a file system that ignores case, it would show a script's source.
    ///
    /// # Errors
    /// The path is refused, or nothing serves it.
    pub fn resolve(
        &self,
        path: &str,
        mut kind: impl FnMut(&[u8]) -> FileKind,
    ) -> Result<Target, ScriptError> {
        let raw = path;
        let mut kind = |name: &[u8]| kind(&join(&self.local_root, name));
        let path = match path::decode(raw, self.encoded_slashes) {
            Err(ScriptError::EncodedSlash)
                if self.encoded_slashes == EncodedSlashes::AfterFiles =>
            {
                return self.resolve_slashed(raw, kind);
            }
            path => path?,
        };
        for end in self.splits(&path) {
            let (name, info) = path.split_at(end);
            if self.is_hidden(name) {
                return self.hidden(&path, kind);
            }
            match kind(name) {
                FileKind::File => return Ok(Target::Script(self.script(name, info))),
                FileKind::Directory => {}
                FileKind::Missing => return self.front(&path, kind),
            }
        }
        if self.is_hidden(&path) {
            return self.hidden(&path, kind);
        }
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

    /// Like [`resolve`](Self::resolve), if the files can't be seen, for instance because the
    /// application is on another machine. The first segment with a suffix is the script. Everything
    /// else goes to the front controller, or, without one and with a slash at the end, to the first
    /// index.
    ///
    /// # Errors
    /// Errors of `resolve`; [`Ambiguous`](ScriptError::Ambiguous) if a directory's name before the
    /// script has a dot, since it may be a file that the application would run instead.
    pub fn resolve_unseen(&self, path: &str) -> Result<Script, ScriptError> {
        let path = path::decode(path, self.encoded_slashes)?;
        let split = self.splits(&path).next();
        if self.is_hidden(split.map_or(&path[..], |end| &path[..end])) {
            return Err(ScriptError::Hidden);
        }
        if let Some(end) = split {
            let (name, info) = path.split_at(end);
            check_directories(name)?;
            return Ok(self.script(name, info));
        }
        match (self.nearest(&path).next(), self.index.first()) {
            (Some(front), _) => Ok(self.front_script(front, &path)),
            (None, Some(index)) if path.ends_with(b"/") => {
                let name = [&path[..], index].concat();
                check_directories(&name)?;
                Ok(self.script(&name, b""))
            }
            _ => Err(ScriptError::NotFound),
        }
    }

    /// The ends of the segments that have a suffix, from the left.
    fn splits<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        ends.chain([path.len()]).filter(|end| self.is_script(&path[..*end]))
    }

    /// Bytes are compared, so that case folding can't move the split (H-14).
    fn is_script(&self, name: &[u8]) -> bool {
        self.suffixes.iter().any(|suffix| name.ends_with(suffix))
    }

    fn ends_like_script(&self, name: &[u8]) -> bool {
        self.suffixes.iter().any(|suffix| {
            let end = name.len().checked_sub(suffix.len()).map(|start| &name[start..]);
            end.is_some_and(|end| end.eq_ignore_ascii_case(suffix))
        })
    }

    fn is_hidden(&self, name: &[u8]) -> bool {
        !self.hidden_files && path::has_hidden_segment(name)
    }

    /// A hidden name is not found if it is a file or a folder. If not, it is not the name of a
    /// file, and may mean something to a front controller.
    fn hidden(
        &self,
        path: &[u8],
        mut kind: impl FnMut(&[u8]) -> FileKind,
    ) -> Result<Target, ScriptError> {
        let mut ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        // Checks the name itself and, above it, the first file: `/.env/x`.
        let is_there = |end: usize, kind: &mut dyn FnMut(&[u8]) -> FileKind| {
            self.is_hidden(&path[..end]) && kind(&path[..end]) != FileKind::Missing
        };
        if self.nearest(path).next().is_none()
            || is_there(path.len(), &mut kind)
            || ends.any(|end| is_there(end, &mut kind))
        {
            return Err(ScriptError::Hidden);
        }
        self.front(path, kind)
    }

    /// A path with an encoded slash or a backslash, which can't name a file. It may be the
    /// PATH_INFO of a script before it, or mean something to a front controller.
    fn resolve_slashed(
        &self,
        raw: &str,
        mut kind: impl FnMut(&[u8]) -> FileKind,
    ) -> Result<Target, ScriptError> {
        let path = path::decode(raw, EncodedSlashes::Decode)?;
        let plain = path::decode(path::before_encoded_slash(raw), EncodedSlashes::Refuse)?;
        // A later `..` may have removed segments.
        let same = plain.iter().zip(&path).take_while(|(one, other)| one == other).count();
        let ends = self.splits(&plain).take_while(|end| *end <= same);
        for end in ends {
            let (name, info) = path.split_at(end);
            if self.is_hidden(name) || !(info.is_empty() || info.starts_with(b"/")) {
                break;
            }
            match kind(name) {
                FileKind::File => return Ok(Target::Script(self.script(name, info))),
                FileKind::Directory => {}
                FileKind::Missing => break,
            }
        }
        self.front(&path, kind).map_err(|_| ScriptError::EncodedSlash)
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
        let there = self.nearest(path).find(|front| kind(front) == FileKind::File);
        there
            .map(|front| Target::Script(self.front_script(front, path)))
            .ok_or(ScriptError::NotFound)
    }

    /// The front controllers of the folders that the path is in, the nearest first.
    fn nearest<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + 'a {
        let all = self.front_controllers.iter().map(|front| &front[..]);
        all.filter(move |front| path.starts_with(folder(front)))
    }

    fn front_script(&self, front: &[u8], path: &[u8]) -> Script {
        // The slash before the rest is part of it.
        let info = if self.front_path_info { &path[folder(front).len() - 1..] } else { b"" };
        self.script(front, info)
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

/// `/x.jpg/y.php` would run `x.jpg` in a php with `cgi.fix_pathinfo=1`.
fn check_directories(script: &[u8]) -> Result<(), ScriptError> {
    let directories = script.iter().rposition(|byte| *byte == b'/').map(|end| &script[..end]);
    if directories.is_some_and(|names| names.contains(&b'.')) {
        return Err(ScriptError::Ambiguous);
    }
    Ok(())
}
