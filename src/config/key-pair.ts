import { generateSecretKey, getPublicKey } from 'nostr-tools/pure';

/** A fresh Nostr key pair as two lines for `.env`, from the system's random source. */
export function keyPairLines(): string {
  const secretKey = generateSecretKey();
  return `SECRET_KEY=${Buffer.from(secretKey).toString('hex')}\nPUBLIC_KEY=${getPublicKey(secretKey)}\n`;
}
