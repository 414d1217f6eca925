//! The server: identifies callers, applies faults, answers calls, and cuts connections.

use std::convert::Infallible;
use std::io;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::answer::{bad_request, refusal};
use super::calls::CallRecord;
use super::faults::{Fault, FaultKind};
use super::market::{ApiError, CallContext, Service};
use super::wire::{self, Call, Signer, Target};
use super::{Parts, harness};
use crate::http::browser::{self, Hosts};

/// A marker on a response whose connection is cut instead of answered.
#[derive(Clone, Copy)]
struct CutConnection;

/// Accepts connections until told to stop.
pub(super) async fn serve(
    listener: TcpListener,
    parts: Parts,
    shutdown: CancellationToken,
    tasks: TaskTracker,
) {
    // Those who let others reach it know by which names it is addressed.
    let loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let hosts = if loopback { Hosts::Loopback } else { Hosts::Any };
    let router =
        Router::new().fallback(call).with_state(parts.clone()).merge(harness::router(parts));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            // Small answers go out at once; without this they wait for the peer's acknowledgement.
            stream.set_nodelay(true).ok();
            tasks.spawn(connection(stream, router.clone(), hosts, shutdown.clone()));
        }
    }
}

async fn connection(stream: TcpStream, router: Router, hosts: Hosts, shutdown: CancellationToken) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move {
            if let Some(refused) = refusal_of_page(hosts, &request) {
                return Ok(refused);
            }
            let answer: Result<Response, Infallible> = router.oneshot(request.map(Body::new)).await;
            match answer {
                Ok(response) if response.extensions().get::<CutConnection>().is_none() => {
                    Ok(response)
                }
                // hyper closes the connection of a service that fails, without a word.
                _ => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            }
        }
    });
    let builder = Builder::new(TokioExecutor::new());
    let served = builder.serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = shutdown.cancelled() => {}
        // A peer that goes away, or a connection that was cut on purpose, is nobody's concern.
        _ = served => {}
    }
}

/// Returns the refusal of a request that a web page may have sent to the control API, which moves the clock and money.
fn refusal_of_page<B>(hosts: Hosts, request: &hyper::Request<B>) -> Option<Response> {
    if !request.uri().path().starts_with("/_sandbox") {
        return None;
    }
    let checked = browser::check(hosts, request.method(), request.uri(), request.headers());
    let foreign = checked.err()?;
    Some((foreign.status(), Json(json!({"error": foreign.to_string()}))).into_response())
}

async fn call(
    State(parts): State<Parts>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(read) = wire::read(&method, &uri, &headers, &body) else {
        let message = format!("{method} {} is no call that the sandbox knows\n", uri.path());
        return (StatusCode::NOT_FOUND, message).into_response();
    };
    let signer = wire::signer(&headers);
    let mut response = match read {
        Ok(call) => answer(&parts, &signer, call).await,
        Err((protocol, error)) => wire::write(protocol, "Unknown", &Err(error)),
    };
    if let Some(date) = parts.trust.date() {
        let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        response.headers_mut().extend(HeaderValue::try_from(date).map(|it| (header::DATE, it)));
    }
    response
}

async fn answer(parts: &Parts, signer: &Signer, call: Call) -> Response {
    let fault = parts.faults.strike(&call.operation);
    let note = |outcome: &str| {
        parts.calls.note(CallRecord {
            operation: call.operation.clone(),
            access_key: signer.access_key.clone(),
            at: parts.market.clock().now(),
            outcome: outcome.to_owned(),
            asked: search_of(&call.input),
        });
    };
    if let Some(fault) = &fault {
        tokio::time::sleep(fault.kind.delay(fault.amount)).await;
        if fault.kind == FaultKind::CutBefore {
            note("cut_before");
            return cut();
        }
        if fault.kind == FaultKind::Empty {
            note("empty");
            return wire::write(call.protocol, &call.operation, &Ok(json!({})));
        }
        if let Some(error) = refusal_by(fault, &call) {
            note(error.code);
            return wire::write(call.protocol, &call.operation, &Err(error));
        }
    }
    let outcome = perform(parts, signer, &call, fault.as_ref()).await;
    match fault.map(|fault| fault.kind) {
        Some(FaultKind::CutAfter) => {
            note("cut_after");
            cut()
        }
        Some(FaultKind::Garble) => {
            note("garble");
            (StatusCode::OK, "\u{1}\u{2}rubbish").into_response()
        }
        _ => {
            note(outcome.as_ref().map_or_else(|error| error.code, |_| "ok"));
            wire::write(call.protocol, &call.operation, &outcome)
        }
    }
}

/// Returns the part of an input that says what is searched for.
fn search_of(input: &Value) -> Value {
    let part = |name: &str| Some((name.to_owned(), input.get(name)?.clone()));
    let parts: serde_json::Map<String, Value> =
        ["filters", "sort"].into_iter().filter_map(part).collect();
    if parts.is_empty() { Value::Null } else { parts.into() }
}

fn cut() -> Response {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(CutConnection);
    response
}

fn refusal_by(fault: &Fault, call: &Call) -> Option<ApiError> {
    match fault.kind {
        FaultKind::Throttle => Some(bad_request("ThrottlingException", "Rate exceeded")),
        FaultKind::Error500 => {
            let code = match call.target {
                Target::Market(Service::Metering) => "InternalServiceErrorException",
                _ => "InternalFailure",
            };
            Some(refusal(500, code, "an internal error, as was asked for"))
        }
        FaultKind::Deny => Some(bad_request(
            "AccessDeniedException",
            format!("not authorized to perform: {}", call.action()),
        )),
        FaultKind::ExpiredCredentials => Some(refusal(
            403,
            "ExpiredTokenException",
            "The security token included in the request is expired",
        )),
        FaultKind::RevokedCredentials => Some(refusal(
            403,
            "UnrecognizedClientException",
            "The security token included in the request is invalid",
        )),
        _ => None,
    }
}

async fn perform(
    parts: &Parts,
    signer: &Signer,
    call: &Call,
    fault: Option<&Fault>,
) -> Result<Value, ApiError> {
    parts.trust.check(signer, call)?;
    parts.sts.allow(&signer.access_key, &call.action())?;
    match call.target {
        Target::Sqs => parts.queues.call(&call.operation, &call.input).await,
        Target::Sts => parts.sts.call(&signer.access_key, &call.operation, &call.input),
        Target::Market(service) => {
            let unprocessed = fault
                .filter(|fault| fault.kind == FaultKind::Unprocessed)
                .map(|fault| fault.amount.map_or(usize::MAX, |amount| amount as usize));
            parts.market.with(|market, now| {
                let context = CallContext { now, region: signer.region.clone(), unprocessed };
                market.call(&context, service, &call.operation, &call.input)
            })
        }
    }
}
