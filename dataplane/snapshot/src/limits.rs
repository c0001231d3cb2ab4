//! Every limit of the contract between the planes, by name.
//!
//! Passing one is a refusal that names the limit; none is ever silently cut.

/// Objects of all kinds in one snapshot.
pub const OBJECTS_MAX: usize = 4_000_000;
/// Bytes of one frame's payload on the local socket (a million routes of ~300 B fit twice).
pub const FRAME_BYTES_MAX: usize = 1 << 30;
/// Bytes of an object's id.
pub const ID_BYTES_MAX: usize = 64;
/// Bytes of a consumer's name (APISIX's limit).
pub const CONSUMER_BYTES_MAX: usize = 100;
/// Bytes of one object's JSON.
pub const OBJECT_BYTES_MAX: usize = 1 << 20;
/// Faults that one refused revision reports; the rest are counted.
pub const FAULTS_REPORTED_MAX: usize = 100;
/// URIs of one route.
pub const URIS_PER_ROUTE_MAX: usize = 1_024;
/// Hosts of one route or service.
pub const HOSTS_PER_OBJECT_MAX: usize = 1_024;
/// Bytes of one URI pattern.
pub const URI_BYTES_MAX: usize = 4_096;
/// Bytes of one host pattern (RFC 1035 section 2.3.4).
pub const HOST_BYTES_MAX: usize = 253;
/// Segments of one URI pattern.
pub const URI_SEGMENTS_MAX: usize = 256;
/// Nodes of one upstream.
pub const NODES_PER_UPSTREAM_MAX: usize = 8_192;
/// The path of a node that is a Unix socket: `sun_path` less its end.
pub const UNIX_PATH_BYTES_MAX: usize = 107;
/// Bytes of a zone's name.
pub const ZONE_BYTES_MAX: usize = 128;
/// The highest weight of a node.
pub const NODE_WEIGHT_MAX: u32 = 1_000_000;
/// Nesting of a free JSON value (`vars`, plugin configuration).
pub const JSON_DEPTH_MAX: usize = 32;
/// Seconds between two probes of a node, or for one.
pub const CHECK_INTERVAL_S_MAX: u32 = 86_400;
/// Bytes of a probe's path.
pub const CHECK_PATH_BYTES_MAX: usize = 1_024;
/// Header lines that a probe adds.
pub const CHECK_HEADERS_MAX: usize = 32;
/// Conditions of one expression (`vars`), or of all those of one `fault-injection` delay or abort together.
pub const EXPRESSION_TESTS_MAX: usize = 256;
/// Expressions of one `fault-injection` delay or abort (APISIX's limit).
pub const FAULT_VARS_MAX: usize = 20;
/// Conditions of one `traffic-split`.
pub const SPLIT_TESTS_MAX: usize = 1_024;
/// Address blocks of one condition.
pub const EXPRESSION_BLOCKS_MAX: usize = 1_024;
/// Bytes of the path in `post_arg.PATH`.
pub const BODY_PATH_BYTES_MAX: usize = 1_024;
/// Steps of such a path.
pub const BODY_PATH_STEPS_MAX: usize = 32;
/// Bytes of a regular expression as it is written.
pub const PATTERN_TEXT_BYTES_MAX: usize = 4_096;
/// Bytes of a compiled regular expression.
pub const PATTERN_AUTOMATON_BYTES_MAX: usize = 512 << 10;
/// Bytes that finding a regular expression's groups may take, for each request that it rewrites.
pub const PATTERN_GROUPS_BYTES_MAX: usize = 128 << 10;
/// Filters of one `response-rewrite`.
pub const FILTERS_MAX: usize = 16;
/// Bytes of an answer's body that is held for filters.
pub const FILTERED_BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of the body that filters make of it.
pub const FILTERED_OUTPUT_BYTES_MAX: usize = 4 << 20;
/// Steps that all filters of one answer take together: bytes that a table steps over, each time it does.
pub const FILTER_STEPS_MAX: u64 = 32 << 20;
/// As many steps as looking for a pattern's groups in one place takes at least.
pub const GROUP_SEARCH_STEPS: u64 = 512;
/// Regular expressions of one `regex_uri`.
pub const REGEX_URIS_MAX: usize = 64;
/// Variables and groups of one text.
pub const TEMPLATE_VARIABLES_MAX: usize = 256;
/// Rules of one `traffic-split`.
pub const SPLIT_RULES_MAX: usize = 64;
/// Upstreams of one rule of `traffic-split` (APISIX's limit).
pub const SPLIT_UPSTREAMS_MAX: usize = 20;
/// Addresses or hosts of one plugin that restricts who may ask.
pub const RESTRICTIONS_MAX: usize = 4_096;
/// Bytes of the name of an argument that has a consumer's key.
pub const ARGUMENT_NAME_BYTES_MAX: usize = 256;
/// Bytes of the realm that a request without credentials is told (APISIX's limit).
pub const REALM_BYTES_MAX: usize = 128;
/// Seconds that a plugin may hold a request.
pub const DELAY_S_MAX: f64 = 3_600.0;
/// Bytes of a request's name made by `request-id`.
pub const RANGE_ID_BYTES_MAX: usize = 128;
/// Values of an answer that `mocking` makes up.
pub const MOCKED_VALUES_MAX: usize = 10_000;
