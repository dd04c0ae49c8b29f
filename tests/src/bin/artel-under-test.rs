//! The same program as `artel`, built beside the tests so that they always run the current one.

fn main() -> std::process::ExitCode {
    artel_cli::main()
}
