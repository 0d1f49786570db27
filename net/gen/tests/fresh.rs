//! Generated code is committed; here it is held against the schema it came from.

use std::fs;

#[test]
fn committed_code_is_what_the_schema_says() {
    let net = corelane_netgen::net_dir();
    let expected = corelane_netgen::generate(&net.join("schema")).unwrap();
    let target = net.join("src/generated");
    for (name, text) in &expected {
        let committed = fs::read_to_string(target.join(name)).unwrap_or_default();
        assert!(
            committed == *text,
            "net/src/generated/{name} is not fresh; run `cargo run -p corelane-netgen`"
        );
    }
    for entry in fs::read_dir(target).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(expected.contains_key(&name), "net/src/generated/{name} has no schema");
    }
}

#[test]
fn a_wrong_line_is_named() {
    for (text, told) in [
        ("# x\napi 1 A broker\nrequest 0..1\n  a: i33", "line 4: i33 is no type"),
        ("# x\napi 1 A broker\nrequest 0..1\n  a i32", "line 4: no colon after a"),
        (
            "# x\napi 1 A broker\nrequest 0..1\n    a: i32",
            "line 4: indented by 2 where 1 was expected",
        ),
        (
            "# x\napi 1 A broker\nrequest 0..1\n  a: i32\n    b: i8",
            "line 4: only structs have fields",
        ),
        ("# x\napi 1 A broker\nrequest 1..0", "line 3: versions 1..0 are not inside None"),
        (
            "# x\nrecords y\n",
            "line 2: neither `api KEY NAME LISTENERS` nor `records` and the file's name",
        ),
    ] {
        let error = corelane_netgen::schema::parse("x", text).unwrap_err();
        assert_eq!(error.to_string(), told);
    }
}
