//! A real PostgreSQL takes its password from the mount, and nobody else finds it.

use anyhow::{Context, Result, ensure};
use secretd_tests::node::Node;

const PASSWORD: &str = "correct-horse-7f3a9c";

fn database() -> Result<Node> {
    let tar = std::env::var("POSTGRES_TAR")
        .context("POSTGRES_TAR: run the tests with `make test`, which builds the image")?;
    let node = Node::start()?;
    node.found()?;
    let changes = include_str!("../images/postgres/changes");
    let mut arguments = vec!["image", "import", "--tag", "postgres:15"];
    arguments.extend(changes.lines().flat_map(|line| ["--change", line]));
    arguments.push(&tar);
    node.ok(&arguments)?;
    node.ok_with(&["secret", "create", "psql-pw", "-"], format!("{PASSWORD}\n").as_bytes())?;
    node.ok_with(&["secret", "create", "psql-user", "-"], b"shop")?;
    node.create_service(&[
        "--name",
        "db",
        "--secret",
        "psql-pw",
        "--secret",
        "psql-user",
        "-e",
        "POSTGRES_PASSWORD_FILE=/run/secrets/psql-pw",
        "-e",
        "POSTGRES_USER_FILE=/run/secrets/psql-user",
        "postgres:15",
    ])?;
    // pg_isready's own loop: the server says when it listens on TCP, which the one that makes the database does not.
    node.ok(&[
        "exec",
        "db.1",
        "sh",
        "-c",
        "for i in $(seq 600); do pg_isready -q -h 127.0.0.1 && exit 0; sleep 0.1; done; exit 1",
    ])?;
    Ok(node)
}

fn login(node: &Node, password: &str) -> Result<secretd_tests::command::Answer> {
    let environment = format!("PGPASSWORD={password}");
    node.sctl(&["exec", "-e", &environment, "db.1", "psql", "-h", "127.0.0.1", "-U", "shop", "-tAc", "select 6*7"], b"")
}

#[test]
fn login_over_tcp_works_with_the_password_and_with_no_other() -> Result<()> {
    let node = database()?;

    let right = login(&node, PASSWORD)?;
    let wrong = login(&node, "wrong")?;

    ensure!(right.stdout.trim() == "42", "{right:?}\n{}", node.ok(&["service", "logs", "db"])?);
    ensure!(wrong.code() == 2 && wrong.stderr.contains("password authentication failed"), "{wrong:?}");
    Ok(())
}
