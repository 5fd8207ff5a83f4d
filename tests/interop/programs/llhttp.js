// SPDX-License-Identifier: Apache-2.0
// What llhttp, as Node uses it, reads in bytes of a client: see requests.c, whose words these are.
const { HTTPParser } = require("_http_common");
const fs = require("fs");

function read(data) {
	const parser = new HTTPParser(), bodies = [];
	let length = 0, connect = false;

	parser.initialize(HTTPParser.REQUEST, {}); // strict: no leniency is asked for
	parser[HTTPParser.kOnHeaders | 0] = () => {};
	parser[HTTPParser.kOnHeadersComplete | 0] = (major, minor, fields, method) => {
		length = 0;
		connect = HTTPParser.methods ? HTTPParser.methods[method] === "CONNECT" : method === 5;
		return 0;
	};
	parser[HTTPParser.kOnBody | 0] = (piece, at, count) => {
		length += count === undefined ? piece.length : count;
	};
	parser[HTTPParser.kOnMessageComplete | 0] = () => {
		bodies.push(length);
	};
	for (let at = 0; at < data.length && !connect;) {
		const took = parser.execute(data.subarray(at));

		if (took instanceof Error)
			return `${bodies.map((n) => n + " ").join("")}refused ${took.code}`;
		if (!took)
			break;
		at += took; // less than all: an upgrade was asked for, and this server declines
	}
	return `${bodies.map((n) => n + " ").join("")}end`;
}

const all = fs.readFileSync(0), lines = [];

for (let at = 0; at < all.length;) {
	const size = all.readUInt32BE(at);

	lines.push(read(all.subarray(at + 4, at + 4 + size)));
	at += 4 + size;
}
process.stdout.write(lines.join("\n") + "\n");
