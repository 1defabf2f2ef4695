//! Listeners: what is bound, with which rights, and what is said when it can't be.

use std::{
    fs, io,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{MetadataExt, PermissionsExt, symlink},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use fcgi_engine::{Address, Error, Listener};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    (folder, path)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn whatever_becomes_an_address_is_bound() {
    let (_folder, path) = place();
    let text = path.to_str().unwrap().to_owned();
    let bound = |listener: Result<Listener, Error>| {
        let listener = listener.unwrap();
        assert_eq!(*listener.local_addr(), Address::unix(&path));
        UnixStream::connect(&path).unwrap();
    };
    bound(Listener::bind(path.clone()));
    bound(Listener::bind(&path));
    bound(Listener::bind(&*path));
    bound(Listener::bind(&*text));
    bound(Listener::bind(&text));
    bound(Listener::bind(format!("unix://{text}")));
    bound(Listener::bind(Address::unix(&path)));
    bound(Listener::bind(Address::unix(&path)));
    assert!(!path.exists(), "removed with its listener");
    let any = Listener::bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    assert!(!any.local_addr().to_string().ends_with(":0"), "{any:?}");
}

#[test]
fn a_mode_is_exact_whatever_the_umask_leaves() {
    for wanted in [0o600, 0o660, 0o666, 0o777, 0o000] {
        let (_folder, path) = place();
        let _listener = Listener::builder(&path).mode(wanted).bind().unwrap();
        assert_eq!(mode(&path), wanted);
    }
}

/// Somebody looks at the file all the time while it is made again and again.
#[test]
fn the_file_is_at_no_time_open_to_more() {
    let (_folder, path) = place();
    let (seen, done) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                if let Ok(metadata) = fs::symlink_metadata(&path) {
                    assert_eq!(metadata.mode() & 0o7777 & !0o640, 0, "{:o}", metadata.mode());
                    seen.store(true, Ordering::SeqCst);
                }
            }
        });
        while !seen.load(Ordering::SeqCst) {
            drop(Listener::builder(&path).mode(0o640).bind().unwrap());
        }
        for _ in 0..200 {
            drop(Listener::builder(&path).mode(0o640).bind().unwrap());
        }
        done.store(true, Ordering::SeqCst);
    });
}

/// A user who may rename files in the folder replaces the socket by a link as soon as it is there.
#[test]
fn a_link_in_the_sockets_place_is_not_followed() {
    let (folder, path) = place();
    let target = folder.path().join("precious");
    let link = folder.path().join("link");
    fs::write(&target, "precious").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    let (swapped, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let _ = fs::remove_file(&link);
                symlink(&target, &link).unwrap();
                while fs::symlink_metadata(&path).is_err() && !done.load(Ordering::SeqCst) {}
                if fs::rename(&link, &path).is_ok() {
                    swapped.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        for _ in 0..2000 {
            // 0o666 is more than any usual umask leaves, so that the mode has to be set.
            let _ = Listener::builder(&path).mode(0o666).bind();
            let _ = fs::remove_file(&path);
            if mode(&target) != 0o600 {
                break;
            }
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(mode(&target), 0o600, "after {swapped:?} links");
}

/// One that is bound and does not listen yet looks like one that was left behind.
#[test]
fn of_servers_that_start_at_one_time_one_listens() {
    for _ in 0..100 {
        let (_folder, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        let start = Barrier::new(4);
        let bind = || {
            start.wait();
            Listener::builder(&path).mode(0o666).bind()
        };
        let bound = std::thread::scope(|scope| {
            let servers = [(); 4].map(|()| scope.spawn(bind));
            servers.map(|server| server.join().unwrap())
        });
        let (bound, refused): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
        assert_eq!((bound.len(), refused.len()), (1, 3), "{refused:?}");
        for error in refused {
            let error = io::Error::from(error.unwrap_err());
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
        UnixStream::connect(&path).unwrap();
    }
}

#[test]
fn a_port_that_another_process_has_for_ipv6_is_in_use() {
    match TcpListener::bind("[::1]:0") {
        Ok(other) => {
            let port = other.local_addr().unwrap().port();
            let error = Listener::bind(format!(":{port}")).unwrap_err();
            let text = error.to_string();
            assert!(text.contains("another process listens at this port"), "{text}");
        }
        // Without IPv6, IPv4 alone will do.
        Err(_) => drop(Listener::bind(":0").unwrap()),
    }
}

#[test]
fn owner_and_group_are_set_by_name_and_by_number() {
    let (_folder, path) = place();
    let own = fs::metadata("/proc/self").unwrap();
    let listener = Listener::builder(&path).owner(own.uid()).group(own.gid()).bind().unwrap();
    let seen = fs::symlink_metadata(&path).unwrap();
    assert_eq!((seen.uid(), seen.gid()), (own.uid(), own.gid()));
    drop(listener);
    if is_root() {
        let listener = Listener::builder(&path).owner("daemon").group("4242").mode(0o660).bind();
        let _listener = listener.unwrap();
        let seen = fs::symlink_metadata(&path).unwrap();
        assert_eq!((seen.uid(), seen.gid(), mode(&path)), (1, 4242, 0o660));
    } else {
        let message = refused(Listener::builder(&path).owner(0).bind(), &path);
        assert!(message.contains("owner or group"), "{message}");
        assert!(!path.exists(), "nothing is left behind");
    }
}

/// The error's text, which names the address.
fn refused(listener: Result<Listener, Error>, path: &Path) -> String {
    let error = listener.map(|listener| panic!("{listener:?}")).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("listen at unix:{}: ", path.display())), "{text}");
    assert!(std::error::Error::source(&error).is_some());
    text
}

#[test]
fn what_can_not_be_bound_is_said_with_what_to_do() {
    let (folder, path) = place();
    let bind = |path: &Path| refused(Listener::bind(path), path);

    let _first = Listener::bind(&path).unwrap();
    assert!(bind(&path).contains("another process listens there"));
    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(bind(&file).contains("not a socket"));
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    let link = folder.path().join("link");
    symlink(folder.path().join("nowhere"), &link).unwrap();
    assert!(bind(&link).contains("not a socket"));
    assert!(bind(folder.path()).contains("this is a folder"));
    assert!(bind(&folder.path().join("no/app.sock")).contains("there is no folder"));
    assert!(bind(&file.join("app.sock")).contains("is not a folder"));
    assert!(bind(&folder.path().join("x".repeat(200))).contains("too long"));
    let unknown = Listener::builder(folder.path().join("new")).group("no-such-group").bind();
    let text = refused(unknown, &folder.path().join("new"));
    assert!(text.contains("no group \"no-such-group\""), "{text}");
    if !is_root() {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
        assert!(bind(&folder.path().join("other")).contains("may not make a file"));
    }

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Address::from(taken.local_addr().unwrap());
    let text = Listener::bind(&port).unwrap_err().to_string();
    assert!(text.starts_with(&format!("listen at {port}: ")), "{text}");
    assert!(text.contains("another process listens at this port"), "{text}");
    let text = Listener::bind("192.0.2.1:9000").unwrap_err().to_string();
    assert!(text.contains("no interface of this machine"), "{text}");
    let text = Listener::bind("nowhere.invalid:9000").unwrap_err().to_string();
    assert!(text.contains("\"nowhere.invalid\" is not known"), "{text}");
    let text = Listener::bind("9000").unwrap_err().to_string();
    assert!(text.contains("tcp:HOST:PORT"), "says which forms there are: {text}");
}

#[test]
fn what_does_not_listen_is_refused() {
    let (one, _two) = UnixStream::pair().unwrap();
    let file = tempfile::tempfile().unwrap();
    for fd in [OwnedFd::from(one), OwnedFd::from(file)] {
        let error = Listener::from_fd(fd).unwrap_err();
        assert!(error.to_string().contains("not a listening socket"), "{error}");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn a_socket_of_somebody_elses_has_its_real_address_and_keeps_its_file() {
    let (_folder, path) = place();
    let given = UnixListener::bind(&path).unwrap();
    let listener = Listener::from_fd(given.into()).unwrap();
    assert_eq!(*listener.local_addr(), Address::unix(&path));
    drop(listener);
    assert!(path.exists());
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = Address::from(tcp.local_addr().unwrap());
    assert_eq!(*Listener::from(tcp).local_addr(), at);
}
