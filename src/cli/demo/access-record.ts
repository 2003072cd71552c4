import { X509Certificate } from 'node:crypto'
import { readJsonLine } from './read-json-line.ts'

/** What a node's Envoy saw of the other side of one request; the access log of `envoy-configs/*-node.yaml`. */
export interface AccessRecord {
  readonly requestId: string
  readonly ownId: string
  readonly peerId: string
  /** Lower-case hex. */
  readonly peerSerial: string
  readonly tlsVersion: string
  readonly keyExchange: string
  readonly cipher: string
  readonly status: number
  readonly details: string
}

/** @returns `undefined` for a line that is no access record */
export function parseAccessRecord (line: string): AccessRecord | undefined {
  const record = readJsonLine(line)
  const text = (key: string) => {
    const value = record?.[key]
    return typeof value === 'string' || typeof value === 'number' ? String(value) : '-'
  }
  if (text('request_id') === '-') return undefined
  return {
    requestId: text('request_id'),
    ownId: text('own_id'),
    peerId: text('peer_id'),
    peerSerial: serialOf(text('peer_cert')),
    tlsVersion: text('tls_version'),
    keyExchange: text('tls_group'),
    cipher: text('tls_cipher'),
    status: Number(text('status')),
    details: text('details')
  }
}

/** @param pem URL-encoded */
function serialOf (pem: string): string {
  return pem === '-' ? '-' : new X509Certificate(decodeURIComponent(pem)).serialNumber.toLowerCase()
}
