#!/bin/bash
# Run by the LocalStack container once it answers (a ready.d hook; docker-compose.yml mounts it there).
# Makes the bucket that tests and demo use. A restart on a volume that has it already changes nothing.
set -euo pipefail

bucket="${S3LAYERS_BUCKET:-s3layers-test}"
if awslocal s3api head-bucket --bucket "$bucket" 2>/dev/null; then
    echo "bucket $bucket is there"
else
    awslocal s3 mb "s3://$bucket"
fi
