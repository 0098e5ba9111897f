# The program in an image with nothing else in it: one static binary, the certificates that HTTPS to
# the store needs, and a user that is not root. `docker build -t s3layers .`
#
#   docker run -p 127.0.0.1:5000:5000 -e AWS_ACCESS_KEY_ID -e AWS_SECRET_ACCESS_KEY s3layers \
#       --store s3://bucket/registry serve --listen 0.0.0.0:5000 --allow-anonymous
#
# This registry authenticates no client (see docs/operations.md for --users and --policy). Within the container it listens on every address, as only ports that are
# published can be reached: publish it on 127.0.0.1, or to a reverse proxy that authenticates clients.

FROM rust:1.95-alpine AS build
# A C compiler for ring and zstd; alpine's target is musl, and links statically by itself.
RUN apk add --no-cache ca-certificates gcc make musl-dev
WORKDIR /src
COPY Cargo.toml Cargo.lock README.md ./
COPY src src
COPY crates crates
# What the manifest names has to be there; none of it is built.
COPY examples examples
COPY benches benches
COPY tests tests
RUN cargo build --release --locked --bin s3layers && mkdir /data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/s3layers /s3layers
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
# Where the embedded store is when no other is named: a volume, so that it outlives the container.
ENV XDG_DATA_HOME=/data
VOLUME /data
EXPOSE 5000
STOPSIGNAL SIGTERM
ENTRYPOINT ["/s3layers"]
CMD ["serve", "--listen", "0.0.0.0:5000", "--allow-anonymous"]
