import type { Socket } from 'node:net';

/**
 * Waits until a socket is connected (`connect`) or its TLS handshake has finished (`secureConnect`). A socket that
 * fails, closes or is aborted before that is destroyed.
 *
 * @throws the socket's error, one with code `ECONNRESET` when it closes, or the signal's reason
 */
export function socketReady(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  signal: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = () => {
      socket.on('error', () => {}); // an 'error' before the caller listens would end the process
      socket.off(event, onReady).off('error', fail).off('close', onClose);
      signal.removeEventListener('abort', onAbort);
    };
    const onReady = () => {
      settle();
      resolve();
    };
    const fail = (error: unknown) => {
      settle();
      socket.destroy();
      reject(error);
    };
    const onAbort = () => fail(signal.reason);
    const onClose = () => fail(closedError());
    socket.once(event, onReady).once('error', fail).once('close', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

function closedError(): NodeJS.ErrnoException {
  const error = new Error('the connection was closed before it was ready');
  return Object.assign(error, { code: 'ECONNRESET' });
}
