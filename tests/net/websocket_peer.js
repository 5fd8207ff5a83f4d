// SPDX-License-Identifier: Apache-2.0
//
// WebSocket by Node's ws, run in pods: the same as websocket_peer.py, with which it talks.
"use strict";

const assert = require("assert");
const WebSocket = require("ws");

const SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20];

function serve(port, name) {
	const server = new WebSocket.Server({ port, host: "::", maxPayload: 1 << 22, perMessageDeflate: true,
		handleProtocols: (offered) => offered.has("chat") && "chat" });

	server.on("connection", (ws) => {
		ws.send(name);
		ws.on("message", (data, binary) => {
			if (!binary && data.toString() === "close")
				ws.close(4001, "as you wish");
			else
				ws.send(data, { binary });
		});
	});
}

// A client whose messages are asked for one by one.
async function open(url, protocols, options) {
	const ws = new WebSocket(url, protocols, { maxPayload: 1 << 22, ...options });
	const came = [], waits = [];

	ws.next = () => new Promise((done) => (came.length ? done(came.shift()) : waits.push(done)));
	ws.on("message", (data, binary) => (waits.length ? waits.shift() : came.push.bind(came))({ data, binary }));
	await new Promise((done, failed) => ws.on("open", done).on("error", failed));
	return ws;
}

async function talk(url, name) {
	const ws = await open(url, ["chat"], { perMessageDeflate: true });

	assert.strictEqual(ws.protocol, "chat");
	assert.strictEqual((await ws.next()).data.toString(), name);
	for (const size of SIZES) {
		for (const message of [Buffer.alloc(size, "binary"), "\u263a".repeat(Math.floor(size / 3))]) {
			ws.send(message);
			const got = await ws.next();
			assert.strictEqual(got.binary, typeof message !== "string");
			assert(got.data.equals(Buffer.from(message)), `${size} bytes`);
		}
	}
	ws.send("one", { fin: false });
	ws.send("two", { fin: false });
	ws.send("three", { fin: true });
	assert.strictEqual((await ws.next()).data.toString(), "onetwothree");
	const pong = new Promise((done) => ws.on("pong", done));
	ws.ping("here?");
	assert.strictEqual((await pong).toString(), "here?");
	const closed = new Promise((done) => ws.on("close", (code, reason) => done([code, reason.toString()])));
	ws.send("close");
	assert.deepStrictEqual(await closed, [4001, "as you wish"]);
	const several = await Promise.all(Array.from({ length: 20 }, () => open(url, ["chat"], { perMessageDeflate: false })));
	several.forEach((one, number) => one.send(String(number)));
	for (const [number, one] of several.entries()) {
		assert.strictEqual((await one.next()).data.toString(), name);
		assert.strictEqual((await one.next()).data.toString(), String(number));
		one.close();
	}
	console.log("all right");
}

const [what, first, name] = process.argv.slice(2);
if (what === "server")
	serve(Number(first), name);
else
	talk(first, name).catch((e) => {
		console.error(e);
		process.exit(1);
	});
