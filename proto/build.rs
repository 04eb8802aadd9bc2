//! Compiles the protocol files with protox, so that no protoc is needed.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 10] = [
    "matrixai/v1/types.proto",
    "matrixai/v1/admin.proto",
    "matrixai/v1/ledger.proto",
    "matrixai/v1/accounts.proto",
    "matrixai/v1/market.proto",
    "matrixai/v1/jobs.proto",
    "matrixai/v1/drilling.proto",
    "matrixai/v1/artifacts.proto",
    "matrixai/v1/cluster.proto",
    "matrixai/v1/agent.proto",
];
const PEER: &str = "matrixai/v1/peer.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=matrixai");
    let files: Vec<&str> = FILES.iter().copied().chain([PEER]).collect();
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let grpc = env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure().build_client(grpc).build_server(grpc).compile_fds(descriptors)?;
    Ok(())
}
