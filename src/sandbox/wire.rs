//! Telling calls apart by what the SDKs send, and answering each in its own protocol.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::answer::bad_request;
use super::cbor;
use super::market::{ApiError, Service};

/// The protocols of the SDKs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// AWS JSON 1.0 or 1.1.
    Json(&'static str),
    /// Smithy RPC v2 CBOR.
    Cbor,
    /// REST JSON.
    Rest,
    /// The query protocol, answered in XML.
    Query,
}

/// The service that a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Sqs,
    Sts,
    Market(Service),
}

/// A call, read.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) protocol: Protocol,
    pub(super) target: Target,
    pub(super) operation: String,
    pub(super) input: Value,
}

impl Call {
    /// Returns the token that says who calls, in the one call that nobody signs.
    pub(super) fn web_identity(&self) -> Option<&str> {
        let is_by_token = self.operation == "AssumeRoleWithWebIdentity";
        is_by_token.then(|| self.input["WebIdentityToken"].as_str().unwrap_or_default())
    }

    /// Returns the IAM action that allows it.
    pub(super) fn action(&self) -> String {
        match self.target {
            Target::Sqs => {
                // One permission covers a call and its batch.
                let operation = self.operation.strip_suffix("Batch").unwrap_or(&self.operation);
                format!("sqs:{operation}")
            }
            Target::Sts => format!("sts:{}", self.operation),
            Target::Market(_) => format!("aws-marketplace:{}", self.operation),
        }
    }
}

/// The signer of a request, and its region. The signature itself is taken on trust.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Signer {
    pub(super) access_key: String,
    pub(super) region: String,
    /// The time that was signed for, as `x-amz-date` has it.
    pub(super) signed_at: String,
}

/// Reads `Credential=KEY/DATE/REGION/SERVICE/aws4_request`.
pub(super) fn signer(headers: &HeaderMap) -> Signer {
    let scope = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split("Credential=").nth(1))
        .and_then(|rest| rest.split([',', ' ']).next())
        .unwrap_or_default();
    let mut parts = scope.split('/');
    let access_key = parts.next().unwrap_or_default().to_owned();
    let region = parts.nth(1).unwrap_or("us-east-1").to_owned();
    let date = headers.get("x-amz-date").and_then(|value| value.to_str().ok());
    Signer { access_key, region, signed_at: date.unwrap_or_default().to_owned() }
}

/// Reads a call; `None` if the request is not one of AWS's.
pub(super) fn read(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<Result<Call, (Protocol, ApiError)>> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let media_type = text(header::CONTENT_TYPE).unwrap_or_default();
    if let Some(rest) = uri.path().strip_prefix("/service/") {
        let (service, operation) = rest.split_once("/operation/")?;
        return Some(rpc(service, operation, body));
    }
    if let Some(target) = text(HeaderName::from_static("x-amz-target")) {
        let version = if media_type.contains("json-1.0") { "1.0" } else { "1.1" };
        let (service, operation) = target.rsplit_once('.')?;
        return Some(aws_json(version, service, operation, body));
    }
    if let Some(operation) = rest_operation(method, uri.path()) {
        let input = if *method == Method::GET { Ok(query(uri)) } else { parse(body) };
        let call = |input| Call {
            protocol: Protocol::Rest,
            target: Target::Market(Service::Catalog),
            operation: operation.to_owned(),
            input,
        };
        return Some(input.map(call).map_err(|error| (Protocol::Rest, error)));
    }
    if media_type.starts_with("application/x-www-form-urlencoded") {
        let input = form(&String::from_utf8_lossy(body));
        let operation = input["Action"].as_str()?.to_owned();
        return Some(Ok(Call { protocol: Protocol::Query, target: Target::Sts, operation, input }));
    }
    None
}

fn rest_operation(method: &Method, path: &str) -> Option<&'static str> {
    match (method.as_str(), path) {
        ("POST", "/ListEntities") => Some("ListEntities"),
        ("GET", "/DescribeEntity") => Some("DescribeEntity"),
        _ => None,
    }
}

fn market_service(name: &str) -> Option<Service> {
    match name {
        "AWSMPEntitlementService" => Some(Service::Entitlement),
        "AWSMPMeteringService" => Some(Service::Metering),
        name if name.starts_with("AWSMPCommerceService") => Some(Service::Agreement),
        _ => None,
    }
}

type ReadCall = Result<Call, (Protocol, ApiError)>;

fn unknown_service(name: &str) -> ApiError {
    bad_request("UnknownOperationException", format!("the sandbox has no service {name}"))
}

fn rpc(service: &str, operation: &str, body: &[u8]) -> ReadCall {
    let protocol = Protocol::Cbor;
    let target = market_service(service).ok_or_else(|| (protocol, unknown_service(service)))?;
    let input = cbor::decode(body)
        .ok_or_else(|| (protocol, bad_request("SerializationException", "the body is not CBOR")))?;
    Ok(Call { protocol, target: Target::Market(target), operation: operation.to_owned(), input })
}

fn aws_json(version: &'static str, service: &str, operation: &str, body: &[u8]) -> ReadCall {
    let protocol = Protocol::Json(version);
    let target = match service {
        "AmazonSQS" => Target::Sqs,
        name => match market_service(name) {
            Some(service) => Target::Market(service),
            None => return Err((protocol, unknown_service(name))),
        },
    };
    let input = parse(body).map_err(|error| (protocol, error))?;
    Ok(Call { protocol, target, operation: operation.to_owned(), input })
}

fn parse(body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_slice(body)
        .map_err(|error| bad_request("SerializationException", error.to_string()))
}

fn query(uri: &Uri) -> Value {
    form(uri.query().unwrap_or_default())
}

fn form(text: &str) -> Value {
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(text).unwrap_or_default();
    pairs.into_iter().map(|(key, value)| (key, Value::String(value))).collect()
}

/// Answers a call in its protocol.
pub(super) fn write(
    protocol: Protocol,
    operation: &str,
    answer: &Result<Value, ApiError>,
) -> Response {
    let status = match answer {
        Ok(_) => StatusCode::OK,
        Err(error) => StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST),
    };
    let (media_type, body) = match protocol {
        Protocol::Cbor => {
            let value = answer.as_ref().map_or_else(cbor_error, Clone::clone);
            ("application/cbor", cbor::encode(&value))
        }
        Protocol::Query => ("text/xml", xml(operation, answer).into_bytes()),
        Protocol::Rest => ("application/json", json_body(answer)),
        Protocol::Json("1.0") => ("application/x-amz-json-1.0", json_body(answer)),
        Protocol::Json(_) => ("application/x-amz-json-1.1", json_body(answer)),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    let request_id = uuid::Uuid::new_v4().to_string();
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert("x-amzn-requestid", value);
    }
    if protocol == Protocol::Cbor {
        headers.insert("smithy-protocol", HeaderValue::from_static("rpc-v2-cbor"));
    }
    if let Err(error) = answer {
        headers.insert("x-amzn-errortype", HeaderValue::from_static(error.code));
    }
    response
}

fn json_body(answer: &Result<Value, ApiError>) -> Vec<u8> {
    let value = match answer {
        Ok(value) => value.clone(),
        Err(error) => json!({
            "__type": error.code, "message": error.message, "Message": error.message,
        }),
    };
    value.to_string().into_bytes()
}

fn cbor_error(error: &ApiError) -> Value {
    json!({"__type": format!("com.amazonaws#{}", error.code), "message": error.message})
}

/// Writes an answer of the query protocol: every object a tag, every text escaped.
fn xml(operation: &str, answer: &Result<Value, ApiError>) -> String {
    match answer {
        Ok(value) => format!(
            "<{operation}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <{operation}Result>{}</{operation}Result></{operation}Response>",
            element(value)
        ),
        Err(error) => format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error>\
             <Type>Sender</Type><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>",
            error.code,
            escape(&error.message)
        ),
    }
}

fn element(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let elements = members
                .iter()
                .map(|(name, value)| [name, element(value).as_str()].map(str::to_owned));
            elements.fold(String::new(), |xml, [name, inner]| {
                xml + &format!("<{name}>{inner}</{name}>")
            })
        }
        Value::String(text) => escape(text),
        other => other.to_string(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
