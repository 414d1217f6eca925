//! The HTTP API: routes, problem details, authentication, OpenAPI.
