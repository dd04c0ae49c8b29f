//! Runs the S3 server of the tests on a given port and folder, until it is killed.

use std::path::Path;

use artel_tests::s3::S3Server;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, folder] = arguments.as_slice() else { usage() };
    let Ok(port) = port.parse() else { usage() };
    let server = S3Server::start_in(Path::new(folder), Some(port).filter(|port| *port != 0));
    println!("# {} is at {}", server.url(""), server.endpoint());
    for (name, value) in server.environment() {
        println!("export {name}={value}");
    }
    loop {
        std::thread::park();
    }
}

fn usage() -> ! {
    eprintln!("usage: s3-for-tests PORT FOLDER (port 0 for a free one)");
    std::process::exit(2)
}
