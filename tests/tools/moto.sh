# Starts moto, an S3 server from PyPI, on loopback, with a bucket artel-test; sourced. Ends with the script that sources it.
venv=target/moto
if [ ! -x "$venv/bin/moto_server" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" -q install 'moto[server]==5.*'
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$venv/bin/moto_server" -H 127.0.0.1 -p "$port" > "$venv/server.log" 2>&1 &
moto=$!
trap 'kill $moto' EXIT
export AWS_ENDPOINT=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=testsecret AWS_REGION=us-east-1
for _ in $(seq 100); do
  curl -sf -X PUT "$AWS_ENDPOINT/artel-test" -o /dev/null && break
  sleep 0.1
done
