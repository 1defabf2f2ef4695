//! The sample application in a real browser: headless Chromium, driven through chromedriver.

mod common;

use std::{fs, process::ExitCode};

use common::{
    gateway::{Gateway, until},
    webdriver::Browser,
};
use fcgi_testkit::{
    harness::{self, Case, Failed},
    peers::Peer,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

type Result = std::result::Result<(), Failed>;
type Test = (&'static str, fn() -> Result);

fn main() -> ExitCode {
    let cases: [Test; 5] = [
        ("the_page_shows_the_requests_parameters", the_page_shows_the_requests_parameters),
        ("a_file_is_uploaded", a_file_is_uploaded),
        ("the_stream_arrives_in_pieces", the_stream_arrives_in_pieces),
        ("it_fits_a_phone_and_the_night", it_fits_a_phone_and_the_night),
        ("it_works_without_scripts", it_works_without_scripts),
    ];
    harness::run(cases.map(|(name, run)| Case::new(name, run).needs(&[Peer::Chromium])))
}

/// The sample application, and a browser that shows its page.
fn open() -> std::result::Result<(Gateway, Browser), Failed> {
    let gateway = Gateway::start(&[]);
    let mut browser = Browser::start(&Peer::Chromium.find()?)?;
    let url = format!("http://127.0.0.1:{}/?lang=en&q=%3Cb%3E", gateway.port);
    browser.go(&url)?;
    Ok((gateway, browser))
}

fn the_page_shows_the_requests_parameters() -> Result {
    let (gateway, mut browser) = open()?;
    assert_eq!(browser.run("return document.title", &[])?, "FastCGI sample application");
    let mut value = |name: &str| {
        browser.run(
            "return [...document.querySelectorAll('tbody tr')]
                .filter(row => row.cells[0].textContent === arguments[0])
                .map(row => row.cells[1].textContent)",
            &[json!(name)],
        )
    };
    assert_eq!(value("QUERY_STRING")?, json!(["lang=en&q=%3Cb%3E"]));
    assert_eq!(value("SERVER_PORT")?, json!([gateway.port.to_string()]));
    let agent = value("HTTP_USER_AGENT")?;
    assert!(agent[0].as_str().is_some_and(|agent| agent.contains("Chrome")), "{agent}");
    // The page's own policy allows its style and script, and nothing else is requested.
    assert_eq!(browser.complaints()?, Vec::<Value>::new());
    let log = gateway.access_log();
    assert!(log.lines().all(|line| line.contains("\"GET /?lang=en")), "{log}");
    Ok(())
}

fn a_file_is_uploaded() -> Result {
    let (_gateway, mut browser) = open()?;
    upload(&mut browser)?;
    assert_eq!(browser.complaints()?, Vec::<Value>::new());
    Ok(())
}

/// Chooses a file, sends it, and checks what the page shows.
fn upload(browser: &mut Browser) -> Result {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("<b>&amp;.bin");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write(&path, &bytes)?;
    browser.type_into("input[type=file]", &path.display().to_string())?;
    browser.click("form button")?;
    let mut told = Value::Null;
    until("the upload is answered", || {
        // While the page changes, the element may be missing.
        told = browser.texts("#received dd").unwrap_or_default();
        told.as_array().is_some_and(|told| !told.is_empty())
    });
    let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = ["<b>&amp;.bin", "application/octet-stream", "3000000", &sha256];
    assert_eq!(told, json!(expected));
    Ok(())
}

fn the_stream_arrives_in_pieces() -> Result {
    let (_gateway, mut browser) = open()?;
    browser.click("#start")?;
    until("the stream has ended", || {
        let state = browser.run("return document.querySelector('#pieces').dataset.state", &[]);
        state.is_ok_and(|state| state == "done")
    });
    let pieces = browser.run(
        "return [...document.querySelectorAll('#pieces li')]
            .map(item => item.querySelector('time').nextSibling.textContent)",
        &[],
    )?;
    let pieces: Vec<&str> =
        pieces.as_array().into_iter().flatten().flat_map(Value::as_str).collect();
    // If something on the way had held the answer back, it would have come in one piece.
    assert!(pieces.len() > 1, "{pieces:?}");
    let lines: Vec<&str> = pieces.iter().flat_map(|piece| piece.lines()).collect();
    for (line, n) in lines.iter().zip(1..) {
        assert!(line.starts_with(&format!("piece {n} of 8, written after ")), "{lines:?}");
    }
    assert_eq!(lines.len(), 8);
    assert_eq!(browser.complaints()?, Vec::<Value>::new());
    Ok(())
}

fn it_fits_a_phone_and_the_night() -> Result {
    let (_gateway, mut browser) = open()?;
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        browser.emulate(360, scheme)?;
        let width = "return document.documentElement.scrollWidth";
        assert_eq!(browser.run(width, &[])?, 360, "no scrolling sideways");
        let background = "return getComputedStyle(document.body).backgroundColor";
        backgrounds.push(browser.run(background, &[])?);
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    Ok(())
}

fn it_works_without_scripts() -> Result {
    let (_gateway, mut browser) = open()?;
    browser.disable_scripts()?;
    browser.reload()?;
    assert_eq!(
        browser.texts("#start")?,
        json!([""]),
        "a button that could do nothing is not shown"
    );
    upload(&mut browser)?;
    browser.click("#plain")?;
    until("the stream is shown", || {
        let body = browser.texts("body").unwrap_or_default();
        body[0].as_str().is_some_and(|body| body.contains("piece 8 of 8"))
    });
    Ok(())
}
