//! The binary `artel`.

fn main() -> std::process::ExitCode {
    artel_cli::main()
}
