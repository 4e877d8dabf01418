//! nginx, which serves a small file, under wrk or ab.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{HOST, LIMIT, Server};
use crate::bench::owned::{Owned, until};
use crate::bench::tool::not_installed;
use crate::command::outside_cargo;

const SECONDS: &str = "3";
/// In case that PATH is a user's, which has no /usr/sbin.
const USUALLY: &str = "/usr/sbin/nginx";

pub(super) struct Nginx {
    server: PathBuf,
    client: Client,
    folder: PathBuf,
}

enum Client {
    Wrk(PathBuf),
    Ab(PathBuf),
}

pub(super) fn prepare(scratch: &Path) -> Result<Result<Nginx, String>> {
    let Ok(server) = which::which("nginx").or_else(|_| which::which(USUALLY)) else {
        return Ok(Err(not_installed("nginx")));
    };
    let client = which::which("wrk")
        .map(Client::Wrk)
        .or_else(|_| which::which("ab").map(Client::Ab));
    let Ok(client) = client else {
        return Ok(Err(not_installed("wrk")));
    };
    let folder = scratch.join("nginx");
    fs::create_dir_all(folder.join("www")).context("cannot create nginx's folder")?;
    fs::write(folder.join("www/index.html"), "hello\n".repeat(100))
        .context("cannot write the page")?;
    Ok(Ok(Nginx {
        server,
        client,
        folder,
    }))
}

impl Server for Nginx {
    fn start(&self, port: u16) -> Result<Owned> {
        let file = self.folder.join("nginx.conf");
        fs::write(&file, configuration(&self.folder, port)).context("cannot write nginx.conf")?;
        let mut command = outside_cargo(&self.server);
        // The log that it opens before it has read where its own is.
        command.args(["-e", "stderr", "-c"]).arg(file);
        let process = Owned::start(&mut command, &self.folder, "nginx")?;
        until("nginx", LIMIT, || {
            anyhow::ensure!(!process.has_ended()?, "{}", process.last_words());
            Ok(TcpStream::connect((HOST, port)).ok())
        })?;
        Ok(process)
    }

    fn work(&self, port: u16) -> Result<f64> {
        let page = format!("http://{HOST}:{port}/index.html");
        let mut command = match &self.client {
            Client::Wrk(wrk) => {
                let mut command = outside_cargo(wrk);
                command.args(["-t2", "-c4", "-d", SECONDS, &page]);
                command
            }
            Client::Ab(ab) => {
                let mut command = outside_cargo(ab);
                // -t alone would stop at 50,000 requests.
                command.args(["-q", "-c4", "-t", SECONDS, "-n", "10000000", &page]);
                command
            }
        };
        let printed = Owned::start(&mut command, &self.folder, "client")?.printed(LIMIT, || ())?;
        requests_per_second(&printed).context("the client says no requests per second")
    }
}

fn configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    // The workers are root, too: no other user may enter the scratch folder. Nothing of nginx's lies elsewhere.
    format!(
        "daemon off;
worker_processes 2;
user root;
pid \"{folder}/nginx.pid\";
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path \"{folder}/body\";
    proxy_temp_path \"{folder}/proxy\";
    fastcgi_temp_path \"{folder}/fastcgi\";
    uwsgi_temp_path \"{folder}/uwsgi\";
    scgi_temp_path \"{folder}/scgi\";
    server {{
        listen {HOST}:{port};
        root \"{folder}/www\";
    }}
}}
"
    )
}

/// From what wrk prints, or ab. None if a request failed.
fn requests_per_second(printed: &str) -> Option<f64> {
    let line = |start: &str| {
        printed
            .lines()
            .find_map(|line| line.trim().strip_prefix(start))
    };
    let none_failed = line("Failed requests:").is_none_or(|count| count.trim() == "0");
    let all_good = line("Non-2xx").is_none() && line("Socket errors").is_none();
    let rate = line("Requests/sec:").or_else(|| line("Requests per second:"))?;
    let rate = rate.split_whitespace().next()?.parse().ok()?;
    (none_failed && all_good).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrk_is_read() {
        let printed = "Running 3s test @ http://127.0.0.1:8080/index.html\n  \
            2 threads and 4 connections\n  Thread Stats   Avg      Stdev     Max   +/- Stdev\n  \
            82543 requests in 3.10s, 69.35MB read\nRequests/sec:  26628.35\nTransfer/sec:     22.37MB\n";
        assert_eq!(requests_per_second(printed), Some(26628.35));
        let failing = printed.replace(
            "Requests/sec",
            "  Non-2xx or 3xx responses: 9\nRequests/sec",
        );
        assert_eq!(requests_per_second(&failing), None);
    }

    #[test]
    fn ab_is_read() {
        let printed = "Complete requests:      3000\nFailed requests:        0\n\
            Requests per second:    9514.40 [#/sec] (mean)\n";
        assert_eq!(requests_per_second(printed), Some(9514.4));
        let failing = printed.replace("Failed requests:        0", "Failed requests:        7");
        assert_eq!(requests_per_second(&failing), None);
        assert_eq!(requests_per_second(""), None);
    }

    #[test]
    fn nothing_of_it_lies_outside_of_its_folder() {
        let text = configuration(Path::new("/scratch"), 8080);
        let paths = text.split('"').filter(|part| part.starts_with('/'));
        assert!(paths.clone().all(|path| path.starts_with("/scratch/")));
        assert_eq!(paths.count(), 7);
    }
}
