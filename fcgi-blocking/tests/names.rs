//! What the async adapters have, `fcgi-blocking` has under the same names; `programs/parity.rs` and
//! `programs/http.rs` of `fcgi-testkit` use theirs.
#![cfg(feature = "php-fpm")]

use std::io::Write;

use fcgi_blocking as fcgi;

fn named<T: ?Sized>() {}

#[test]
fn every_name_of_the_async_adapters_is_here() {
    named::<fcgi::AbortReason>();
    named::<fcgi::Account>();
    named::<fcgi::Address>();
    named::<fcgi::AddressError>();
    named::<fcgi::Client>();
    named::<fcgi::EndOfFile>();
    named::<fcgi::Error>();
    named::<fcgi::Failed>();
    named::<fcgi::FullRequest>();
    named::<fcgi::InputStream>();
    named::<fcgi::Limits>();
    named::<fcgi::Listener>();
    named::<fcgi::ListenerBuilder>();
    named::<fcgi::OutputStream>();
    named::<fcgi::Params>();
    named::<fcgi::Phase>();
    named::<fcgi::Pool>();
    named::<fcgi::ProtocolError>();
    named::<fcgi::Rejection>();
    named::<fcgi::Request>();
    named::<fcgi::Role>();
    named::<fcgi::Roles>();
    named::<fcgi::Serve<()>>();
    named::<fcgi::Server>();
    named::<fcgi::Target<'_>>();
    named::<fcgi::Values>();
    named::<fcgi::proto::RequestKey>();
    let _ = (fcgi::CANCELLED, fcgi::FAILED, fcgi::PANICKED);
    let _: fn() -> bool = fcgi::is_fastcgi;
    assert!(fcgi::IntoAppStatus::into_app_status(Err::<(), _>("why")).is_err());
    named::<fcgi::Failed>();

    named::<fcgi::client::Body>();
    named::<fcgi::client::Chunk>();
    named::<fcgi::client::Client>();
    named::<fcgi::client::Collected>();
    named::<fcgi::client::Connector>();
    named::<fcgi::client::Request>();
    named::<fcgi::client::Response<'_>>();

    named::<fcgi::pool::Builder>();
    named::<fcgi::pool::Pool>();
    named::<fcgi::pool::PoolStats>();
    named::<fcgi::pool::Response>();

    named::<fcgi::http::Authorized<()>>();
    named::<fcgi::http::Authorizer<()>>();
    named::<fcgi::http::Body>();
    named::<fcgi::http::BodyLengthError>();
    named::<fcgi::http::BoxError>();
    named::<fcgi::http::ByRole<(), ()>>();
    named::<fcgi::http::Decision>();
    named::<fcgi::http::EncodedSlashes>();
    named::<fcgi::http::FileKind>();
    named::<fcgi::http::FilterData>();
    named::<fcgi::http::FilterFile>();
    named::<fcgi::http::HeadError>();
    named::<fcgi::http::HeadLimits>();
    named::<fcgi::http::HeaderPolicy>();
    named::<fcgi::http::HttpClient>();
    named::<fcgi::http::HttpClientBuilder>();
    named::<fcgi::http::HttpError>();
    named::<fcgi::http::MetaVariables>();
    named::<fcgi::http::MissingMeta>();
    named::<fcgi::http::Mount>();
    named::<fcgi::http::MountPoint>();
    named::<fcgi::http::ParamsBuilder>();
    named::<fcgi::http::ParamsError>();
    named::<fcgi::http::PathSource>();
    named::<fcgi::http::ReasonPhrase>();
    named::<fcgi::http::RemoteAddr>();
    named::<fcgi::http::RemoteAddrError>();
    named::<fcgi::http::RequestError>();
    named::<fcgi::http::Responder<()>>();
    named::<fcgi::http::ResponseBody>();
    named::<fcgi::http::Script>();
    named::<fcgi::http::ScriptError>();
    named::<fcgi::http::ScriptMap>();
    named::<dyn fcgi::http::Scripts>();
    named::<fcgi::http::Target>();
    named::<fcgi::http::UnknownLength>();
    named::<fcgi::http::Variables>();

    named::<fcgi::php_fpm::Process>();
    named::<fcgi::php_fpm::Status>();
}

#[test]
fn a_client_is_made_of_an_address_a_root_and_a_front_controller() {
    let serve = |request: fcgi::Request| {
        let param = |name| request.param_str(name).unwrap_or_default().to_owned();
        let page = format!("{} {}", param("SCRIPT_FILENAME"), param("REQUEST_URI"));
        write!(request.stdout(), "Content-Type: text/plain\r\n\r\n{page}")
    };
    let listener = fcgi::Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().to_string();
    std::thread::spawn(move || fcgi::serve(listener, serve).run());
    let text = |response: http::Response<fcgi::http::ResponseBody>| {
        std::io::read_to_string(response.into_body()).unwrap()
    };
    let client = fcgi::http::HttpClient::builder(&address)
        .root("/srv/www")
        .front("index.php")
        .build()
        .unwrap();
    assert_eq!(client.address().to_string(), address);
    let page = text(client.get("/articles?page=2").unwrap());
    assert_eq!(page, "/srv/www/index.php /articles?page=2");
    assert_eq!(text(client.get("/shop.php").unwrap()), "/srv/www/shop.php /shop.php");
    assert!(matches!(client.get("/ /"), Err(fcgi::http::HttpError::Uri { .. })));
    assert!(fcgi::http::HttpClient::builder("9000").build().is_err());
    assert!(fcgi::http::HttpClient::builder("-").build().is_err());
    assert!(matches!(fcgi::Pool::new("-"), Err(fcgi::Error::NotCallable { .. })));
    assert!(fcgi::http::HttpClient::builder(&address).front("index.php").build().is_err());
    // Without a root the application gets the path.
    let whole = fcgi::http::HttpClient::builder(&address).build().unwrap();
    assert_eq!(text(whole.get("/articles").unwrap()), " /articles");
}
