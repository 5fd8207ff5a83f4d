// SPDX-License-Identifier: Apache-2.0
// Nio echo PORT | talk HOST PORT SECONDS BYTES: blocking.py's job with Java's selectors and channels.

import java.net.InetSocketAddress;
import java.net.StandardSocketOptions;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.security.MessageDigest;
import java.util.Random;

public class Nio {
	public static void main(String[] args) throws Exception {
		if (args[0].equals("echo"))
			serve(Integer.parseInt(args[1]));
		else
			talk(new InetSocketAddress(args[1], Integer.parseInt(args[2])), Double.parseDouble(args[3]),
				Integer.parseInt(args[4]));
	}

	static void serve(int port) throws Exception {
		Selector selector = Selector.open();
		ServerSocketChannel listener = ServerSocketChannel.open();
		listener.bind(new InetSocketAddress("0.0.0.0", port));
		listener.configureBlocking(false);
		listener.register(selector, SelectionKey.OP_ACCEPT);
		while (true) {
			selector.select();
			for (SelectionKey key : selector.selectedKeys()) {
				if (key.isAcceptable()) {
					SocketChannel s = listener.accept();
					s.configureBlocking(false);
					s.setOption(StandardSocketOptions.TCP_NODELAY, true);
					s.register(selector, SelectionKey.OP_READ, ByteBuffer.allocateDirect(65536));
				} else {
					echo(key, (SocketChannel) key.channel(), (ByteBuffer) key.attachment());
				}
			}
			selector.selectedKeys().clear();
		}
	}

	/* What was read is written before more is read: a full socket stops the reading. */
	static void echo(SelectionKey key, SocketChannel s, ByteBuffer buffer) throws Exception {
		if (key.isReadable() && s.read(buffer) < 0) {
			s.close();
			return;
		}
		buffer.flip();
		s.write(buffer);
		key.interestOps(buffer.hasRemaining() ? SelectionKey.OP_WRITE : SelectionKey.OP_READ);
		buffer.compact();
	}

	static void talk(InetSocketAddress to, double seconds, int size) throws Exception {
		Selector selector = Selector.open();
		SocketChannel s = SocketChannel.open(to);
		s.configureBlocking(false);
		s.setOption(StandardSocketOptions.TCP_NODELAY, true);
		SelectionKey key = s.register(selector, 0);
		Random random = new Random(5);
		long until = System.nanoTime() + (long) (seconds * 1e9);
		while (System.nanoTime() < until)
			exchange(selector, key, s, random, 1 + random.nextInt(3000));
		System.out.println(exchange(selector, key, s, new Random(6), size));
		s.shutdownOutput();
		key.interestOps(SelectionKey.OP_READ);
		selector.select();
		if (s.read(ByteBuffer.allocate(1)) >= 0)
			throw new Exception("more came than was sent");
		s.close();
	}

	/* Sends random bytes and reads them back, both as they go; gives their digest. */
	static String exchange(Selector selector, SelectionKey key, SocketChannel s, Random random, int size)
		throws Exception {
		byte[] data = new byte[size];
		random.nextBytes(data);
		ByteBuffer out = ByteBuffer.wrap(data), back = ByteBuffer.allocate(size);
		while (back.hasRemaining()) {
			key.interestOps(SelectionKey.OP_READ | (out.hasRemaining() ? SelectionKey.OP_WRITE : 0));
			selector.select();
			selector.selectedKeys().clear();
			if (key.isWritable())
				s.write(out);
			if (key.isReadable() && s.read(back) < 0)
				throw new Exception("end of stream after " + back.position() + " of " + size + " bytes");
		}
		if (!java.util.Arrays.equals(back.array(), data))
			throw new Exception("other bytes came back");
		StringBuilder hex = new StringBuilder();
		for (byte b : MessageDigest.getInstance("SHA-256").digest(data))
			hex.append(String.format("%02x", b));
		return hex.toString();
	}
}
