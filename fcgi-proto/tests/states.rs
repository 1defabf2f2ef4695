//! docs/states.md is what the state tables say.
#![allow(clippy::print_stdout, reason = "says why nothing was compared")]

use std::path::Path;

#[test]
fn the_document_is_what_the_tables_generate() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/states.md");
    let generated = fcgi_proto::states::markdown();
    assert!(generated.contains("Params --> Input: PARAMS ended"));
    if !path.parent().is_some_and(Path::exists) {
        println!("not compared: a packaged crate has no docs beside it");
        return;
    }
    if std::env::var_os("UPDATE_STATES").is_some() {
        std::fs::write(&path, &generated).expect("docs/states.md can be written");
    }
    let written = std::fs::read_to_string(&path).expect("docs/states.md is there");
    assert_eq!(written, generated, "UPDATE_STATES=1 cargo test -p fcgi-proto --test states");
}
