//! Requests to parameters and back: the rules, the quirks, the hostile lines.

mod below;
mod from_params;
mod to_params;

use fcgi_http::{ParamsBuilder, RequestBody, Script, request::ParamsError};
use fcgi_proto::Params;
use http::{Request, request::Parts};

fn with_headers(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn build(request: &Parts, body: RequestBody) -> Result<Params, ParamsError> {
    ParamsBuilder::new().build(request, &Script::default(), body)
}
