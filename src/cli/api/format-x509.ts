import type { X509SVID, X509SVIDResponse } from '../../wire/generated/workload.ts'
import { parseCertificate, splitCertificates } from '../../x509/certificate.ts'
import { counted, formatTime, printable } from '../pretty.ts'

/** What `fetch x509` and `watch` print for one answer. @param afterMs how long the answer took */
export function formatX509Response (response: X509SVIDResponse, afterMs: number): string {
  const federated = Object.entries(response.federatedBundles)
  const blocks = response.svids.map(svid => formatSvid(svid) + federated.map(([trustDomain, bundle]) =>
    validity(splitCertificates(bundle), number => `[${printable(trustDomain)}] CA #${number}`)).join(''))
  return `Received ${counted(response.svids.length, 'svid', 'svids')} after ${formatMs(afterMs)}\n\n${blocks.join('\n')}\n`
}

function formatSvid ({ spiffeId, hint, x509Svid, bundle }: X509SVID): string {
  const [leaf, ...intermediates] = splitCertificates(x509Svid)
  return [
    row('SPIFFE ID:', printable(spiffeId)),
    hint === '' ? '' : row('Hint:', printable(hint)),
    leaf === undefined ? '' : validity([leaf], () => 'SVID'),
    validity(intermediates, number => `Intermediate #${number}`),
    validity(splitCertificates(bundle), number => `CA #${number}`)
  ].join('')
}

function validity (certificates: readonly Uint8Array[], label: (number: number) => string): string {
  return certificates.map((der, index) => {
    const { notBefore, notAfter } = parseCertificate(der)
    return row(`${label(index + 1)} Valid After:`, formatTime(notBefore)) + row(`${label(index + 1)} Valid Until:`, formatTime(notAfter))
  }).join('')
}

function row (label: string, value: string): string {
  return `${label.padEnd(31)} ${value}\n`
}

function formatMs (ms: number): string {
  return ms < 1_000 ? `${Number(ms.toFixed(3))}ms` : `${Number((ms / 1_000).toFixed(3))}s`
}
