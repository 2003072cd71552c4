import { decodeMessage } from '../../wire/decode-message.ts'
import { Metadata } from '../../wire/generated/envoy-core.ts'
import { eachField, lengthTag, varintTag, within } from '../../wire/each-field.ts'
import { WireReader } from '../../wire/wire-reader.ts'
import { callerOf, idOfPrincipal } from '../policy/principal.ts'
import type { AuthzRequest, HttpFacts } from '../policy/request.ts'
import { checkMetadata, type CheckMetadata } from './check-metadata.ts'
import { structToJson } from '../../wire/struct-json.ts'
import { jwtFilter, type VerifiedTokens, verifiedTokens } from './verified-tokens.ts'

/** What decides, read from a `CheckRequest` (envoy.service.auth.v3) without making objects of the rest. */
export interface ReadCheck {
  readonly request: AuthzRequest
  /** Of `x-request-id`, the name under which the operator asks later. */
  readonly requestId: string | undefined
}

/** Set by Envoy's configuration, and by nobody else: who is asked for where Envoy's own certificate does not say it. */
const destinationExtension = 'assay.destination'

/**
 * Who calls is what TLS proved to Envoy (`source.principal`), never a header. A principal that is no SPIFFE ID is no identity.
 * @param metadata of the call, if it is to be believed (see `checkMetadata`)
 * @throws {SpiffeError} `message_malformed`
 */
export function readCheck (bytes: Uint8Array, time: Date, metadata: CheckMetadata = {}): ReadCheck {
  const attributes = new Attributes(metadata)
  eachField(new WireReader(bytes), (tag, reader) => {
    if (tag !== first) return false
    within(reader, () => attributes.read(reader))
    return true
  })
  return attributes.result(time)
}

const first = lengthTag(1)
const second = lengthTag(2)
const third = lengthTag(3)
const attribute = {
  source: lengthTag(1),
  destination: lengthTag(2),
  request: lengthTag(4),
  extensions: lengthTag(10),
  metadata: lengthTag(11),
  tls: lengthTag(12)
}
const peerField = { address: lengthTag(1), principal: lengthTag(4) }
const socket = { address: lengthTag(2), port: varintTag(3) }
const httpField = { method: lengthTag(2), headers: lengthTag(3), path: lengthTag(4), host: lengthTag(5), rawHeaders: lengthTag(13) }

interface Peer { principal: string, address: string | undefined, port: number | undefined }

class Attributes {
  readonly #source: Peer = { principal: '', address: undefined, port: undefined }
  readonly #destination: Peer = { principal: '', address: undefined, port: undefined }
  #http: CheckedHttp | undefined
  #extension: string | undefined
  #sni: string | undefined
  #tokens: VerifiedTokens = {}
  readonly #metadata: CheckMetadata

  constructor (metadata: CheckMetadata) { this.#metadata = metadata }

  read (reader: WireReader): void {
    eachField(reader, tag => {
      switch (tag) {
        case attribute.source: within(reader, () => readPeer(reader, this.#source)); return true
        case attribute.destination: within(reader, () => readPeer(reader, this.#destination)); return true
        case attribute.request: within(reader, () => this.#readRequest(reader)); return true
        case attribute.extensions: this.#readExtension(within(reader, () => readPair(reader))); return true
        case attribute.metadata: {
          const { filterMetadata } = decodeMessage(Metadata, reader.raw())
          this.#tokens = verifiedTokens(structToJson(filterMetadata[jwtFilter]))
          return true
        }
        case attribute.tls: this.#sni = within(reader, () => readFirstText(reader)); return true
        default: return false
      }
    })
  }

  result (time: Date): ReadCheck {
    const metadata = this.#metadata
    const source = { principal: textOf(metadata[checkMetadata.source]) ?? this.#source.principal,
      address: textOf(metadata[checkMetadata.sourceAddress]) ?? this.#source.address }
    const destination = { ...this.#destination, principal: textOf(metadata[checkMetadata.destination]) ?? this.#destination.principal }
    if (this.#http !== undefined) Object.assign(this.#http, this.#tokens)
    return {
      request: {
        source: { ...callerOf(source.principal), address: source.address },
        destination: { id: idOfPrincipal(this.#extension ?? destination.principal), address: destination.address, port: destination.port },
        http: this.#http,
        // Envoy tells no version, and the name asked for only where it is configured to (`include_tls_session`).
        tls: { version: undefined, sni: this.#sni },
        time
      },
      requestId: this.#http?.header('x-request-id')
    }
  }

  #readRequest (reader: WireReader): void {
    eachField(reader, tag => {
      if (tag !== second) return false
      // A TCP connection's request has an empty one.
      const http = within(reader, () => CheckedHttp.read(reader))
      if (http.method !== '') this.#http = http
      return true
    })
  }

  #readExtension ([key, value]: readonly [string, string]): void {
    if (key === destinationExtension) this.#extension = value
  }
}

class CheckedHttp implements HttpFacts {
  method = ''
  path = ''
  host = ''
  claims: HttpFacts['claims']
  severalTokens: HttpFacts['severalTokens']
  readonly #pairs: Array<readonly [string, string]> = []
  #map: Map<string, string> | undefined

  static read (reader: WireReader): CheckedHttp {
    const http = new CheckedHttp()
    eachField(reader, tag => {
      switch (tag) {
        case httpField.method: http.method = reader.text(); return true
        case httpField.path: http.path = reader.text(); return true
        case httpField.host: http.host = reader.text(); return true
        case httpField.headers: http.#pairs.push(within(reader, () => readPair(reader))); return true
        case httpField.rawHeaders: within(reader, () => http.#readRaw(reader)); return true
        default: return false
      }
    })
    return http
  }

  /** Made when first asked for: few rules look at headers. */
  get headers (): ReadonlyMap<string, string> {
    if (this.#map !== undefined) return this.#map
    this.#map = new Map()
    for (const [name, value] of this.#pairs) {
      const known = this.#map.get(name)
      this.#map.set(name, known === undefined ? value : `${known},${value}`)
    }
    return this.#map
  }

  header (name: string): string | undefined { return this.#pairs.find(([known]) => known === name)?.[1] }

  /** `header_map`, where Envoy is told to send headers as they came. */
  #readRaw (reader: WireReader): void {
    eachField(reader, tag => {
      if (tag !== first) return false
      this.#pairs.push(within(reader, () => readPair(reader)))
      return true
    })
  }
}

function textOf (value: unknown): string | undefined { return typeof value === 'string' ? value : undefined }

function readPeer (reader: WireReader, peer: Peer): void {
  eachField(reader, tag => {
    if (tag === peerField.principal) peer.principal = reader.text()
    else if (tag === peerField.address) within(reader, () => readAddress(reader, peer))
    else return false
    return true
  })
}

/** Of a socket; a pipe has no address that a rule could name. */
function readAddress (reader: WireReader, peer: Peer): void {
  eachField(reader, kind => {
    if (kind !== first) return false
    within(reader, () => eachField(reader, tag => {
      if (tag === socket.address) peer.address = reader.text()
      else if (tag === socket.port) peer.port = reader.varint64()
      else return false
      return true
    }))
    return true
  })
}

function readFirstText (reader: WireReader): string {
  let text = ''
  eachField(reader, tag => {
    if (tag !== first) return false
    text = reader.text()
    return true
  })
  return text
}

/** A map's entry, or a `HeaderValue`, whose value may come as bytes: both have the name first and the value second. */
function readPair (reader: WireReader): [string, string] {
  let name = ''
  let value = ''
  eachField(reader, tag => {
    if (tag === first) name = reader.text()
    else if (tag === second) value = reader.text()
    else if (tag === third) value = Buffer.from(reader.raw()).toString('latin1')
    else return false
    return true
  })
  return [name, value]
}
