import { DerError, type DerReader } from './der-reader.ts'
import { contextTag } from './der-tag.ts'
import { encodeContextPrimitive } from './der-writer.ts'
import { parseName } from './name.ts'

/** The names of a SubjectAltName (RFC 5280 §4.2.1.6) by form, each in the order given. */
export interface GeneralNames {
  readonly uris: readonly string[]
  readonly dnsNames: readonly string[]
  readonly emails: readonly string[]
  /** 4 or 16 octets. */
  readonly ipAddresses: readonly Uint8Array[]
  /** Names, DER. */
  readonly directoryNames: readonly Uint8Array[]
  /** Tag numbers of names in other forms. */
  readonly others: readonly number[]
}

export const noNames: GeneralNames = { uris: [], dnsNames: [], emails: [], ipAddresses: [], directoryNames: [], others: [] }

/** Tags of the forms that are read (RFC 5280 §4.2.1.6). */
export const nameTag = {
  email: contextTag(1, 'primitive'),
  dns: contextTag(2, 'primitive'),
  directory: contextTag(4, 'constructed'),
  uri: contextTag(6, 'primitive'),
  ip: contextTag(7, 'primitive')
} as const

/** Reads all names from the DER, never from joined text (TS-07). @throws {DerError} */
export function readGeneralNames (reader: DerReader): GeneralNames {
  const names = { uris: [] as string[], dnsNames: [] as string[], emails: [] as string[], ipAddresses: [] as Uint8Array[],
    directoryNames: [] as Uint8Array[], others: [] as number[] }
  while (!reader.isDone) {
    const tag = reader.nextTag as number
    switch (tag) {
      case nameTag.uri: names.uris.push(ascii(reader.read(tag))); break
      case nameTag.dns: names.dnsNames.push(ascii(reader.read(tag))); break
      case nameTag.email: names.emails.push(ascii(reader.read(tag))); break
      case nameTag.ip: names.ipAddresses.push(ipAddress(reader.read(tag))); break
      case nameTag.directory: names.directoryNames.push(directoryName(reader.read(tag))); break
      default:
        if ((tag & 0xc0) !== 0x80 || (tag & 0x1f) > 8) throw new DerError(`no form of name has tag 0x${tag.toString(16)}`)
        reader.readWhole()
        names.others.push(tag & 0x1f)
    }
  }
  return names
}

/** @param uri in ASCII */
export function encodeUri (uri: string): Buffer { return encodeContextPrimitive(6, Buffer.from(uri, 'latin1')) }

/** @param name in ASCII */
export function encodeDnsName (name: string): Buffer { return encodeContextPrimitive(2, Buffer.from(name, 'latin1')) }

/** The content of an IA5String. */
export function ascii (bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
  if (/[^\0-\x7f]/.test(text)) throw new DerError('name is not in ASCII')
  return text
}

function directoryName (name: Uint8Array): Uint8Array {
  parseName(name)
  return name
}

function ipAddress (octets: Uint8Array): Uint8Array {
  if (octets.length !== 4 && octets.length !== 16) throw new DerError(`IP address of ${octets.length} bytes`)
  return octets
}
