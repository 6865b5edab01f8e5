# The page, then the binary with the page embedded, then nothing but that binary.
FROM node:22-alpine AS page
WORKDIR /src/web
COPY web/package.json web/package-lock.json web/.npmrc ./
RUN npm ci --no-audit --no-fund
COPY web/ ./
RUN npm run build

FROM golang:1.26-alpine AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd/ cmd/
COPY pkg/ pkg/
COPY services/ services/
COPY web/embed.go web/
COPY --from=page /src/web/dist/ web/dist/
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /chatr ./cmd/chatr

FROM scratch
# For handlers and stores reached over TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /chatr /chatr
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["/chatr"]
