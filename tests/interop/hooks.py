"""An application's webhooks: writes each POST as one JSON line and answers 200."""
import http.server
import json
import sys

port, path = int(sys.argv[1]), sys.argv[2]


class Hooks(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with open(path, "a") as file:
            file.write(json.dumps({"path": self.path, "id": self.headers["webhook-id"], "body": json.loads(body)}) + "\n")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", port), Hooks).serve_forever()
