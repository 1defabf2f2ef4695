//! Three applications behind one tower service: one is killed and comes back while requests run,
//! and none of them fails.

#[allow(dead_code, reason = "an example program, of which the service is tested")]
#[path = "../examples/tokio-balance.rs"]
mod balance;

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fcgi::{Address, Listener, Server, http::Body};
use fcgi_tokio as fcgi;
use http::{Request, Response};
use http_body_util::Empty;
use tempfile::TempDir;
use tokio::{sync::Semaphore, task::JoinHandle};
use tower::ServiceExt;

const REQUESTS: usize = 2_000;

/// An application that can be killed.
struct Application {
    address: Address,
    /// Requests that it has begun with.
    begun: Arc<AtomicUsize>,
    serving: Option<JoinHandle<()>>,
}

impl Application {
    fn new(path: PathBuf) -> Self {
        let address = format!("unix:{}", path.display()).parse().unwrap();
        let mut application = Self { address, begun: Arc::default(), serving: None };
        application.start();
        application
    }

    fn start(&mut self) {
        let listener = Listener::bind(&self.address).unwrap();
        let begun = Arc::clone(&self.begun);
        let app = tower::service_fn(move |request: Request<Body>| {
            begun.fetch_add(1, Ordering::SeqCst);
            async move {
                // Long enough that some are under way when it is killed.
                tokio::time::sleep(Duration::from_millis(2)).await;
                Ok::<_, Infallible>(Response::new(Body::from(request.uri().path().to_owned())))
            }
        });
        self.serving = Some(tokio::spawn(async move {
            Server::new().serve_http(listener, app).await.unwrap();
        }));
    }

    /// Nobody listens any more, and every connection is closed.
    async fn kill(&mut self) {
        let serving = self.serving.take().unwrap();
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

struct Site {
    applications: Vec<Application>,
    _folder: TempDir,
}

impl Site {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |n: usize| folder.path().join(format!("{n}.sock"));
        Self { applications: (0..3).map(|n| Application::new(path(n))).collect(), _folder: folder }
    }

    fn addresses(&self) -> Vec<Address> {
        self.applications.iter().map(|application| application.address.clone()).collect()
    }
}

fn get(n: usize) -> balance::Get {
    Request::get(format!("/{n}")).body(Empty::new()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_of_2000_requests_fails_while_an_application_is_killed_and_comes_back() {
    let mut site = Site::start();
    let service = balance::balanced(site.addresses()).unwrap();
    let (done, at_once) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(24)));
    let mut calls = Vec::new();
    for n in 0..REQUESTS {
        let (service, ended) = (service.clone(), Arc::clone(&done));
        let place = Arc::clone(&at_once).acquire_owned().await.unwrap();
        calls.push(tokio::spawn(async move {
            let answered = service.oneshot(get(n)).await;
            ended.fetch_add(1, Ordering::SeqCst);
            drop(place);
            answered
        }));
        match n {
            500 => site.applications[0].kill().await,
            1_200 => {
                assert!(done.load(Ordering::SeqCst) > 600, "the others go on");
                site.applications[0].start();
            }
            _ => {}
        }
    }
    let before = site.applications[0].begun();
    for (n, call) in calls.into_iter().enumerate() {
        let page = call.await.unwrap().unwrap_or_else(|error| panic!("request {n}: {error}"));
        assert_eq!(page.body(), format!("/{n}").as_bytes());
    }
    assert!(site.applications.iter().all(|application| application.begun() > 20));
    // It has its share again.
    tokio::time::timeout(Duration::from_secs(120), async {
        while site.applications[0].begun() <= before {
            service.clone().oneshot(get(0)).await.unwrap();
        }
    })
    .await
    .expect("the application that came back gets no requests");
}

#[tokio::test]
async fn what_does_not_fit_the_queue_is_refused_at_once() {
    let site = Site::start();
    let service = balance::balanced(site.addresses()).unwrap();
    let calls: Vec<_> = (0..2_000).map(|n| tokio::spawn(service.clone().oneshot(get(n)))).collect();
    let mut shed = 0;
    for call in calls {
        if let Err(error) = call.await.unwrap() {
            assert!(error.is::<tower::load_shed::error::Overloaded>(), "{error}");
            shed += 1;
        }
    }
    assert!(shed > 0 && shed < 2_000, "{shed}");
}
