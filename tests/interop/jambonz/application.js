// An application as jambonz users write it: @jambonz/node-client builds its verbs, and its middleware verifies Jambonz-Signature.
//
//   node application.js ADDRESS PORT SECRET TARGET…
//
// The targets are tried one after the other, each once the action of the one before said that it failed. The first transfer is in the
// reply to a call hook, after an answer; or GET /verbs gives it, for the control API. Every hook that was signed rightly is a line of JSON on stdout; any other gets 401 and `refused`.
'use strict';
const http = require('http');
const { WebhookResponse } = require('@jambonz/node-client');

const [address, port, secret, ...targets] = process.argv.slice(2);
const verify = WebhookResponse.verifyJambonzSignature(secret);

function transfer(verbs = new WebhookResponse()) {
  return verbs.sip_refer({
    id: `target-${targets.length}`,
    referTo: targets.shift(),
    actionHook: '/action',
    eventHook: '/event',
    headers: { 'X-Custom-Header': 'Value' },
  });
}

const hooks = {
  '/call': () => transfer(new WebhookResponse().answer({ id: 'first' })),
  '/status': () => null,
  '/event': () => null,
  '/action': (hook) => (hook.refer_result === 'failed' && targets.length ? transfer() : new WebhookResponse()),
};

function answer(response, status, body) {
  const text = body ? JSON.stringify(body) : '';
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
  response.end(text);
}

http.createServer((request, response) => {
  let text = '';
  request.on('data', (chunk) => (text += chunk));
  request.on('end', () => {
    if (request.url === '/verbs') return answer(response, 200, transfer());
    // What Express would have put there.
    request.get = (name) => request.headers[name.toLowerCase()];
    try {
      request.body = JSON.parse(text);
      verify(request, response, () => {
        console.log(JSON.stringify([request.url, request.get('webhook-id'), request.body]));
        answer(response, 200, hooks[request.url](request.body));
      });
    } catch (error) {
      console.log(`refused: ${error.message}`);
      answer(response, 401);
    }
  });
}).listen(Number(port), address);
