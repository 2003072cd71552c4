import { createPublicKey, hash, sign } from 'node:crypto'
import { encodeTime } from '../../src/x509/der-time.ts'
import {
  encodeBitString, encodeContext, encodeContextPrimitive, encodeSequence, encodeUnsigned
} from '../../src/x509/der-writer.ts'
import { encodeExtension } from '../../src/x509/encode-extension.ts'
import { oid } from '../../src/x509/oid.ts'
import { encodePem } from '../../src/x509/pem.ts'
import type { Forged } from '../x509/forge-certificate.ts'

export interface CrlOptions {
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  /** Serial numbers. */
  readonly revoked?: readonly Uint8Array[]
}

const ecdsaWithSha256 = Buffer.from('300a06082a8648ce3d040302', 'hex')

/** A CRL of version 2 (RFC 5280 §5) with the two extensions it must have, PEM. */
export function forgeCrl ({ key, subjectDer }: Forged, { thisUpdate, nextUpdate, revoked = [] }: CrlOptions): string {
  const entries = revoked.map(serial => encodeSequence(encodeUnsigned(serial), encodeTime(thisUpdate)))
  const keyId = hash('sha1', createPublicKey(key).export({ format: 'der', type: 'spki' }), 'buffer')
  const tbs = encodeSequence(
    encodeUnsigned(Buffer.of(1)),
    ecdsaWithSha256,
    subjectDer,
    encodeTime(thisUpdate),
    encodeTime(nextUpdate),
    ...entries.length > 0 ? [encodeSequence(...entries)] : [],
    encodeContext(0, encodeSequence(
      encodeExtension(oid.authorityKeyIdentifier, false, encodeSequence(encodeContextPrimitive(0, keyId))),
      encodeExtension('2.5.29.20', false, encodeUnsigned(Buffer.of(1)))
    ))
  )
  return encodePem('X509 CRL', encodeSequence(tbs, ecdsaWithSha256, encodeBitString(sign('sha256', tbs, key))))
}
