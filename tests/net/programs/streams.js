// SPDX-License-Identifier: Apache-2.0
// streams.js echo PORT | talk HOST PORT SECONDS BYTES: blocking.py's job with node's streams and pipes.
"use strict";

const crypto = require("crypto");
const net = require("net");
const { Readable } = require("stream");

function echo(port) {
	net.createServer({ allowHalfOpen: true }, (s) => s.pipe(s)).listen(port, "0.0.0.0");
}

function fail(why) {
	console.error(why);
	process.exit(1);
}

/* One message at a time, until the time is over. */
function converse(s, seconds, done) {
	const until = Date.now() + seconds * 1000;
	const sizes = [1, 20, 500, 3000];
	let message = Buffer.alloc(0), got = [], have = 0, n = 0;

	function next() {
		message = Buffer.alloc(sizes[n % 4], n++ % 251);
		got = [];
		have = 0;
		s.write(message);
	}
	s.on("data", function heard(piece) {
		got.push(piece);
		have += piece.length;
		if (have < message.length)
			return;
		if (!Buffer.concat(got).equals(message))
			fail("another message came back");
		if (Date.now() < until)
			return next();
		s.off("data", heard);
		done();
	});
	next();
}

function talk(host, port, seconds, size) {
	const block = crypto.createHash("sha512").update("weft").digest();
	const data = Buffer.alloc(size);

	for (let at = 0; at < size; at += block.length) {
		block.copy(data, at);
		data.writeUInt32LE(at, at);
	}
	const s = net.connect({ host, port, allowHalfOpen: true, noDelay: true }, () => converse(s, seconds, () => {
		const pieces = [];
		for (let at = 0; at < size; at += 100000)
			pieces.push(data.subarray(at, at + 100000));
		const hash = crypto.createHash("sha256");

		Readable.from(pieces).pipe(s);
		s.pipe(hash).on("finish", () => {
			const back = hash.digest("hex");
			if (back !== crypto.createHash("sha256").update(data).digest("hex"))
				fail("other bytes came back");
			console.log(back);
		});
	}));
	s.on("error", (e) => fail(e.message));
}

const [what, ...args] = process.argv.slice(2);

if (what === "echo")
	echo(Number(args[0]));
else
	talk(args[0], Number(args[1]), Number(args[2]), Number(args[3]));
