//! The pool's only thread. It is looked for by its name in the whole process: so this is the only
//! test here.

mod raw_app;

use std::time::Duration;

use fcgi::Pool;
use fcgi_blocking as fcgi;
use raw_app::*;

fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
    names.filter(|name| name.as_ref().is_ok_and(|name| name.trim() == "fcgi-pool")).count()
}

#[test]
fn there_is_one_thread_while_there_are_idle_connections() {
    let app = RawApp::new();
    let builder = Pool::builder(app.address.clone()).keep_conn(true).max_age(None);
    let pool = builder.idle_timeout(Duration::from_secs(4)).build().unwrap();
    app.serve(|mut peer| peer.echo());
    assert_eq!(threads(), 0);
    for _ in 0..2 {
        let sent = [pool.send(post(b"one")).unwrap(), pool.send(post(b"two")).unwrap()];
        for response in sent {
            response.collect(100).unwrap();
        }
        until("the thread is there", || threads() == 1);
        until("the thread is gone", || threads() == 0);
        assert_eq!(pool.stats().connections, 0);
    }
    // It does not outlive the pool either.
    pool.send(post(b"one")).unwrap().collect(100).unwrap();
    until("the thread is there", || threads() == 1);
    drop(pool);
    until("the thread is gone", || threads() == 0);
}
