import { SpiffeError } from '../../spiffe/errors.ts'
import type { SvidTargetInit } from '../../wire/generated/revocation.ts'
import { defineCommand } from '../command.ts'
import { pathFlag, textFlag } from '../flag.ts'
import { usage } from '../parse-flags.ts'
import { readSvidFile } from '../svid/read-svid-file.ts'
import type { Terminal } from '../terminal.ts'
import { revoke, revokeFlags } from './revoke-call.ts'

export const revokeSvid = defineCommand({
  flags: {
    cert: pathFlag('the certificate, PEM or DER; of a chain, the leaf; - is standard input', { placeholder: 'FILE|-' }),
    digest: textFlag('SHA-256 of the certificate in DER, as `openssl x509 -fingerprint -sha256` prints it', { placeholder: 'HEX' }),
    serial: textFlag('serial number of the certificate', { placeholder: 'HEX' }),
    ...revokeFlags
  },
  details: 'The node that has it drops it and has a new one signed. Digest and serial number are looked up in the record of what was\n' +
    'issued; a certificate in a file need not be in it. A peer that asks no agent goes on accepting it: see docs/revocation.md.',
  examples: [
    'assay revoke svid -cert svid.pem -reason leaked --wait',
    'assay revoke svid -digest 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
    'assay revoke svid -serial 5B:D4:0A:11'
  ],
  async run (call) {
    return revoke(call, { svid: await readTarget(call.flags, call.terminal) })
  }
})

interface Given { readonly cert: string | undefined, readonly digest: string | undefined, readonly serial: string | undefined }

async function readTarget ({ cert, digest, serial }: Given, terminal: Terminal): Promise<SvidTargetInit> {
  if ([cert, digest, serial].filter(given => given !== undefined).length !== 1) throw usage('one of -cert, -digest and -serial is required')
  if (serial !== undefined) return { serialNumber: serial }
  if (digest !== undefined) return { digest: readDigest(digest) }
  const file = await readSvidFile(cert as string, terminal)
  if (file.kind === 'x509') return { certificate: file.chain[0] }
  throw new SpiffeError('file_unusable', 'a JWT-SVID cannot be revoked: revoke its SPIFFE ID, or wait until it expires')
}

function readDigest (text: string): Uint8Array {
  const hex = text.replace(/^sha256 Fingerprint=/i, '').replaceAll(':', '')
  if (!/^[0-9a-f]{64}$/i.test(hex)) throw usage('-digest: must be 64 digits of hex')
  return Buffer.from(hex, 'hex')
}
