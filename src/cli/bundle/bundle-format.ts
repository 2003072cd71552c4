import type { Bundle } from '../../spiffe/bundle.ts'
import { formatBundleDocument } from '../../spiffe/bundle-document.ts'
import { encodePem } from '../../x509/pem.ts'
import { choiceFlag } from '../flag.ts'

export const bundleFormatFlag = choiceFlag('PEM certificates, or the SPIFFE document with JWT keys too', ['pem', 'spiffe'], 'pem')

/** @throws {SpiffeError} `key_unsupported` */
export function formatBundle (bundle: Bundle, format: 'pem' | 'spiffe'): string {
  // On the wire none is 0.
  const { sequenceNumber, ...content } = bundle
  const shown = sequenceNumber === 0n ? content : bundle
  if (format === 'spiffe') return `${formatBundleDocument(shown, { indent: 4 })}\n`
  return bundle.x509Authorities.map(({ certificate }) => encodePem('CERTIFICATE', certificate)).join('')
}
