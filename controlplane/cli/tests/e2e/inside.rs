//! The Control API: what the data plane has in force, in APISIX's shapes.

use serde_json::{Value, json};

use crate::stand::{Stand, wait_until};

fn get(stand: &Stand, path: &str) -> (u16, Value) {
    let answer = stand.inside_client().get("localhost", path);
    (answer.status, answer.json())
}

#[test]
fn it_tells_what_is_served_and_what_probes_say() {
    let mut stand = Stand::whole();
    let node = stand.backend("one");
    let (host, port) = (node.ip(), node.port());
    let revision = stand.cluster.sql().change(&format!(
        r#"INSERT INTO ringway.resource (kind, id, spec) VALUES
           ('upstreams', 'u', '{{"nodes": {{"{node}": 1}}, "checks": {{"active": {{"type": "tcp", "healthy": {{"interval": 1}}}}}}}}'),
           ('upstreams', 'dead', '{{"nodes": {{"127.0.0.1:1": 1}}, "checks": {{"active": {{"type": "tcp", "healthy": {{"interval": 1}}, "unhealthy": {{"tcp_failures": 1}}}}}}}}'),
           ('routes', 'r', '{{"uri": "/a", "host": "a.example", "upstream_id": "u"}}')"#
    ));
    stand.wait_for_every_core(revision);

    let (status, routes) = get(&stand, "/v1/routes");
    let route = &routes[0];
    assert_eq!(
        (status, &route["key"], routes.as_array().unwrap().len()),
        (200, &json!("/apisix/routes/r"), 1)
    );
    assert_eq!((&route["value"]["uri"], &route["value"]["id"]), (&json!("/a"), &json!("r")));
    assert_eq!(route["modifiedIndex"], revision);
    assert!(route["value"].as_object().unwrap().values().all(|value| !value.is_null()), "{route}");
    assert_eq!(get(&stand, "/v1/route/r").1, *route);
    let (_, upstream) = get(&stand, "/v1/upstream/u");
    assert_eq!(
        (&upstream["value"]["nodes"][0]["host"], &upstream["value"]["type"]),
        (&json!(host), &json!("roundrobin"))
    );
    assert_eq!(get(&stand, "/v1/services"), (200, json!([])));
    assert_eq!(get(&stand, "/v1/route/none"), (404, json!({"error_msg": "route[none] not found"})));

    wait_until("a probe that failed", || {
        let (status, found) = get(&stand, "/v1/healthcheck/upstreams/dead");
        assert_eq!(status, 200, "{found}");
        (found["nodes"][0]["status"] == "unhealthy").then_some(())
    });
    let (_, checker) = get(&stand, "/v1/healthcheck/upstreams/u");
    assert_eq!((&checker["name"], &checker["type"]), (&json!("/apisix/upstreams/u"), &json!("tcp")));
    assert_eq!((&checker["nodes"][0]["ip"], &checker["nodes"][0]["port"]), (&json!(host), &json!(port)));
    assert_eq!(checker["nodes"][0]["status"], "healthy");
    assert_eq!(get(&stand, "/v1/healthcheck").1.as_array().unwrap().len(), 2);
    assert_eq!(
        get(&stand, "/v1/healthcheck/routes/r"),
        (404, json!({"error_msg": "no checker for routes[r]"}))
    );
    assert_eq!(get(&stand, "/v1/healthcheck/routes/x"), (404, json!({"error_msg": "routes[x] not found"})));
    assert_eq!(get(&stand, "/v1/healthcheck/route/r"), (400, json!({"error_msg": "invalid src type route"})));
    assert!(get(&stand, "/v1/schema").1["main"]["route"].is_object());
    // A page of another site that made its name point here.
    assert_eq!(stand.inside_client().get("evil.example", "/v1/routes").status, 403);
    // Not another command of the data plane's socket.
    assert_eq!(get(&stand, "/v1/route/r%20json%3Bshutdown").0, 404);

    stand.kill_data();
    let (status, refused) = get(&stand, "/v1/routes");
    assert!(status == 503 && refused["error_msg"].as_str().unwrap().contains("the data plane"), "{refused}");
}
