//! nginx's variables, as APISIX has them in `vars`, `key` and plugins: what of a request a name stands for.
//!
//! Refused by name: what would need a parser of GraphQL (`graphql_NAME`), and names that stand for nothing here; APISIX takes those
//! for nil, which hides a misspelling for ever.

use crate::body_path::BodyPath;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// The path as it was matched.
    Uri,
    /// Path and query as the client wrote them.
    RequestUri,
    /// The query.
    QueryString,
    /// `?` where there is a query.
    IsArgs,
    /// The host without its port; `server_name` too, which here has no other meaning.
    Host,
    /// This machine's name.
    Hostname,
    /// The request's method.
    Method,
    /// `http` or `https`.
    Scheme,
    /// `HTTP/1.1`.
    Protocol,
    /// The client's address.
    RemoteAddr,
    /// The client's port.
    RemotePort,
    /// The address that the client connected to.
    ServerAddr,
    /// The port that the client connected to.
    ServerPort,
    /// One argument of the query.
    Argument(Box<str>),
    /// `http_NAME`: a header, with `_` for `-`.
    Header(Box<str>),
    /// `cookie_NAME`.
    Cookie(Box<str>),
    /// `post_arg_NAME`: a field of the form (`application/x-www-form-urlencoded`) that is the request's body.
    FormField(Box<str>),
    /// `post_arg.PATH`: what a path leads to in the form, the parts (`multipart/form-data`) or the JSON that is the request's body.
    InBody(BodyPath),
    /// `uri_param_NAME`: a parameter of the route's pattern. Not in `vars` of routes.
    Parameter(Box<str>),
    /// The status of the answer, once there is one. Not in `vars` of routes.
    Status,
    /// The same where it is a node's answer, or what stands for that of a node that gave none. Not in `vars` of routes.
    UpstreamStatus,
    /// The id of the request's route. Not in `vars` of routes.
    RouteId,
    /// Its name. Not in `vars` of routes.
    RouteName,
    /// The id of its service. Not in `vars` of routes.
    ServiceId,
    /// The name of its consumer, once a plugin has found it. Not in `vars` of routes.
    ConsumerName,
    /// The id of its consumer's group. Not in `vars` of routes.
    ConsumerGroup,
}

impl Variable {
    /// Whether it is known only once the request has a route.
    pub fn needs_route(&self) -> bool {
        matches!(
            self,
            Variable::Parameter(_)
                | Variable::Status
                | Variable::UpstreamStatus
                | Variable::RouteId
                | Variable::RouteName
                | Variable::ServiceId
                | Variable::ConsumerName
                | Variable::ConsumerGroup
        )
    }

    /// Whether the request's body has to be read for it.
    pub fn needs_body(&self) -> bool {
        matches!(self, Variable::FormField(_) | Variable::InBody(_))
    }

    /// Reads a name; tells why it is none.
    pub fn read(name: &str) -> Result<Variable, String> {
        Ok(match name {
            "uri" => Variable::Uri,
            "request_uri" => Variable::RequestUri,
            "query_string" | "args" => Variable::QueryString,
            "is_args" => Variable::IsArgs,
            "host" | "server_name" => Variable::Host,
            "hostname" => Variable::Hostname,
            "method" | "request_method" => Variable::Method,
            "scheme" => Variable::Scheme,
            "server_protocol" => Variable::Protocol,
            "remote_addr" => Variable::RemoteAddr,
            "remote_port" => Variable::RemotePort,
            "server_addr" => Variable::ServerAddr,
            "server_port" => Variable::ServerPort,
            "status" => Variable::Status,
            "upstream_status" => Variable::UpstreamStatus,
            "route_id" => Variable::RouteId,
            "route_name" => Variable::RouteName,
            "service_id" => Variable::ServiceId,
            "consumer_name" => Variable::ConsumerName,
            "consumer_group_id" => Variable::ConsumerGroup,
            "content_type" => Variable::Header("content-type".into()),
            "content_length" => Variable::Header("content-length".into()),
            _ => return Variable::family(name),
        })
    }

    /// `arg_NAME` and the like.
    fn family(name: &str) -> Result<Variable, String> {
        if name.starts_with("graphql_") {
            return Err(format!("{name:?} is not supported by this release: it needs a parser of GraphQL"));
        }
        if let Some(path) = name.strip_prefix("post_arg.") {
            return BodyPath::read(path).map(Variable::InBody);
        }
        let unknown = || format!("{name:?} is not a variable that this release knows");
        if let Some(rest) = name.strip_prefix("uri_param_") {
            return if rest.is_empty() { Err(unknown()) } else { Ok(Variable::Parameter(rest.into())) };
        }
        if let Some(rest) = name.strip_prefix("post_arg_") {
            return if rest.is_empty() { Err(unknown()) } else { Ok(Variable::FormField(rest.into())) };
        }
        let (kind, rest) = name.split_once('_').ok_or_else(unknown)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        // An argument's name may hold anything but what ends it.
        let fits = match kind {
            "arg" => !rest.contains(['&', '=', '#']),
            _ => rest.bytes().all(is_name),
        };
        match kind {
            _ if rest.is_empty() || !fits => Err(unknown()),
            "arg" => Ok(Variable::Argument(rest.into())),
            "http" => Ok(Variable::Header(rest.replace('_', "-").to_ascii_lowercase().into())),
            "cookie" => Ok(Variable::Cookie(rest.into())),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_others_refused_with_the_reason() {
        assert_eq!(Variable::read("http_X_Real_IP"), Ok(Variable::Header("x-real-ip".into())));
        assert_eq!(Variable::read("arg_a.b"), Ok(Variable::Argument("a.b".into())));
        assert_eq!(Variable::read("uri_param_id"), Ok(Variable::Parameter("id".into())));
        assert_eq!(Variable::read("args"), Ok(Variable::QueryString));
        assert!(Variable::RouteId.needs_route() && !Variable::Uri.needs_route());
        for name in ["", "arg_", "http_a b", "nope", "cookie_;", "uri_param_", "arg_a&b"] {
            assert!(Variable::read(name).unwrap_err().contains("not a variable"), "{name}");
        }
        assert_eq!(Variable::read("post_arg_k.l"), Ok(Variable::FormField("k.l".into())));
        assert!(Variable::read("post_arg.a.b").is_ok_and(|variable| variable.needs_body()));
        for (name, word) in
            [("post_arg.a[", "invalid expression"), ("post_arg_", "variable"), ("graphql_name", "GraphQL")]
        {
            assert!(Variable::read(name).unwrap_err().contains(word), "{name}");
        }
    }
}
