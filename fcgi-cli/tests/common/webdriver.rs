//! As much of WebDriver as the tests of a page need: chromedriver, over HTTP.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use fcgi_testkit::{harness::Failed, http::HttpConnection};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Failed>;

/// The key under which WebDriver puts an element's name.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A headless browser with one page. Dropping it ends it.
pub(crate) struct Browser {
    driver: Child,
    connection: HttpConnection,
    session: String,
}

impl Browser {
    pub(crate) fn start(driver: &Path) -> Result<Self> {
        // chromedriver makes a profile in a temporary folder.
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        match Self::connect(&mut driver) {
            Ok((connection, session)) => Ok(Self { driver, connection, session }),
            Err(error) => {
                let _ = driver.kill();
                let _ = driver.wait();
                Err(error)
            }
        }
    }

    fn connect(driver: &mut Child) -> Result<(HttpConnection, String)> {
        let mut lines = BufReader::new(driver.stdout.take().ok_or("piped")?).lines();
        let port: u16 = loop {
            let line = lines.next().ok_or("chromedriver ended")??;
            let port = line.split("successfully on port ").nth(1);
            if let Some(port) = port {
                break port.trim_end_matches('.').parse()?;
            }
        };
        // It stops when nobody reads its output.
        thread::spawn(move || lines.for_each(drop));
        let mut connection = HttpConnection::connect(("127.0.0.1", port))?;
        let mut arguments = vec!["--headless=new", "--disable-gpu", "--disable-dev-shm-usage"];
        if rustix::process::geteuid().is_root() {
            // Chromium has no sandbox for root.
            arguments.push("--no-sandbox");
        }
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let body = json!({ "capabilities": { "alwaysMatch": capabilities } });
        let answer = ask(&mut connection, "POST", "/session", &body)?;
        let session = answer["sessionId"].as_str().ok_or_else(|| answer.to_string())?;
        Ok((connection, format!("/session/{session}")))
    }

    fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        let path = format!("{}{path}", self.session);
        ask(&mut self.connection, "POST", &path, body)
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) fn go(&mut self, url: &str) -> Result<()> {
        self.post("/url", &json!({ "url": url })).map(drop)
    }

    pub(crate) fn reload(&mut self) -> Result<()> {
        self.post("/refresh", &json!({})).map(drop)
    }

    /// The result of a script in the page.
    pub(crate) fn run(&mut self, script: &str, arguments: &[Value]) -> Result<Value> {
        self.post("/execute/sync", &json!({ "script": script, "args": arguments }))
    }

    fn elements(&mut self, selector: &str) -> Result<Vec<String>> {
        let body = json!({ "using": "css selector", "value": selector });
        let found = self.post("/elements", &body)?;
        let name = |element: &Value| element[ELEMENT].as_str().map(str::to_owned);
        Ok(found.as_array().into_iter().flatten().filter_map(name).collect())
    }

    fn element(&mut self, selector: &str) -> Result<String> {
        let found = self.elements(selector)?.into_iter().next();
        found.ok_or_else(|| format!("no {selector} in the page").into())
    }

    /// The texts of all elements, as they can be seen.
    pub(crate) fn texts(&mut self, selector: &str) -> Result<Value> {
        let mut texts = Vec::new();
        for element in self.elements(selector)? {
            let path = format!("{}/element/{element}/text", self.session);
            texts.push(ask(&mut self.connection, "GET", &path, &Value::Null)?);
        }
        Ok(texts.into())
    }

    pub(crate) fn click(&mut self, selector: &str) -> Result<()> {
        let element = self.element(selector)?;
        self.post(&format!("/element/{element}/click"), &json!({})).map(drop)
    }

    /// Types, or chooses a file.
    pub(crate) fn type_into(&mut self, selector: &str, text: &str) -> Result<()> {
        let element = self.element(selector)?;
        self.post(&format!("/element/{element}/value"), &json!({ "text": text })).map(drop)
    }

    /// A screen of this width in pixels, and `light` or `dark`.
    pub(crate) fn emulate(&mut self, width: u32, scheme: &str) -> Result<()> {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": 800, "deviceScaleFactor": 1, "mobile": true }),
        )?;
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": [feature] }))
    }

    /// The page as a picture, a PNG.
    pub(crate) fn screenshot(&mut self) -> Result<Vec<u8>> {
        let path = format!("{}/screenshot", self.session);
        let picture = ask(&mut self.connection, "GET", &path, &Value::Null)?;
        Ok(base64(picture.as_str().ok_or("a picture")?))
    }

    /// Pages loaded from now on run no scripts of theirs.
    pub(crate) fn disable_scripts(&mut self) -> Result<()> {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({ "value": true }))
    }

    fn devtools(&mut self, command: &str, parameters: &Value) -> Result<()> {
        let body = json!({ "cmd": command, "params": parameters });
        self.post("/goog/cdp/execute", &body).map(drop)
    }

    /// The complaints in the browser's console since the last call.
    pub(crate) fn complaints(&mut self) -> Result<Vec<Value>> {
        let entries = self.post("/se/log", &json!({ "type": "browser" }))?;
        let is_bad = |entry: &&Value| entry["level"] != "INFO" && entry["level"] != "DEBUG";
        Ok(entries.as_array().into_iter().flatten().filter(is_bad).cloned().collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session.
        let _ = ask(&mut self.connection, "DELETE", &self.session, &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// One command, and its value.
fn ask(connection: &mut HttpConnection, method: &str, path: &str, body: &Value) -> Result<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len().to_string();
    let fields = [("Content-Type", "application/json"), ("Content-Length", &*length)];
    connection.send_head(method, path, &fields)?;
    connection.send(body.as_bytes())?;
    let reply = connection.read_reply()?;
    let mut answer: Value = serde_json::from_slice(&reply.body)?;
    match answer["value"].take() {
        error if reply.head.status != 200 => Err(format!("{method} {path}: {error}").into()),
        value => Ok(value),
    }
}

/// The bytes of a text in base64.
fn base64(text: &str) -> Vec<u8> {
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().filter_map(digit).collect();
    let mut out = Vec::new();
    for four in digits.chunks(4) {
        let bits = four.iter().fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit));
        let bits = bits << (6 * (4 - four.len()));
        out.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    out
}
