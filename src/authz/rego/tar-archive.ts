import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { SpiffeError } from '../../spiffe/errors.ts'

export interface ArchiveLimits {
  /** Of the compressed archive, in bytes. */
  readonly maxCompressed: number
  /** Of what it expands to, in bytes. */
  readonly maxSize: number
  readonly maxFiles: number
}

export const archiveLimits: ArchiveLimits = { maxCompressed: 16 * 1024 * 1024, maxSize: 64 * 1024 * 1024, maxFiles: 2000 }

const blockBytes = 512
const maxPathBytes = 512

/**
 * Reads a gzipped tar archive of plain files (POSIX.1-1988 `ustar`, with the `path` and `size` records of pax): what `opa build` and `tar
 * -czf` write.
 * Everything else is refused: links, devices, a path twice, one that leaves the archive, bytes after its end.
 * @returns path, without a slash at its begin → content, in the archive's order
 * @throws {SpiffeError} `rego_bundle_invalid`
 */
export async function readTarGz (bytes: Uint8Array, limits: ArchiveLimits = archiveLimits): Promise<ReadonlyMap<string, Buffer>> {
  if (bytes.length > limits.maxCompressed) throw invalid(`it is larger than ${limits.maxCompressed} bytes`)
  let tar: Buffer
  try {
    tar = await promisify(gunzip)(bytes, { maxOutputLength: limits.maxSize })
  } catch (error) {
    const tooLarge = (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE'
    throw invalid(tooLarge ? `it expands to more than ${limits.maxSize} bytes` : 'it is no gzip file', error)
  }
  return readTar(tar, limits)
}

function readTar (tar: Buffer, { maxFiles }: ArchiveLimits): ReadonlyMap<string, Buffer> {
  const files = new Map<string, Buffer>()
  let extended: ReadonlyMap<string, string> = new Map()
  let entries = 0
  for (let at = 0; ;) {
    const header = tar.subarray(at, at + blockBytes)
    if (header.length < blockBytes) throw invalid('it ends before its last block')
    if (header.every(byte => byte === 0)) {
      if (!tar.subarray(at).every(byte => byte === 0)) throw invalid('something stands behind its end')
      return files
    }
    if (++entries > 2 * maxFiles) throw invalid(`it has more than ${maxFiles} files`)
    checkSum(header)
    const type = String.fromCharCode(header[156] || 0x30)
    const size = sizeOf(header, extended)
    const begin = at + blockBytes
    const content = tar.subarray(begin, begin + size)
    if (content.length < size) throw invalid('a file in it is cut short')
    at = begin + Math.ceil(size / blockBytes) * blockBytes
    if (type === 'x') {
      extended = readRecords(content)
      continue
    }
    const path = checkPath(extended.get('path') ?? nameOf(header))
    extended = new Map()
    if (type === '5') continue
    // Type 1 and 2 are links; a reader that follows them reads files that are not in the archive.
    if (type !== '0') throw invalid(`${path} is no plain file (type ${JSON.stringify(type)})`)
    if (files.has(path)) throw invalid(`${path} is in it twice`)
    if (files.size >= maxFiles) throw invalid(`it has more than ${maxFiles} files`)
    files.set(path, content)
  }
}

function nameOf (header: Buffer): string {
  const name = text(header, 0, 100)
  const isUstar = header.toString('latin1', 257, 262) === 'ustar'
  // GNU's format has times where ustar has the prefix.
  const prefix = isUstar && header[263] === 0x30 ? text(header, 345, 155) : ''
  return prefix === '' ? name : `${prefix}/${name}`
}

function text (header: Buffer, at: number, length: number): string {
  const field = header.subarray(at, at + length)
  const end = field.indexOf(0)
  return utf8(end < 0 ? field : field.subarray(0, end))
}

function utf8 (bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (error) {
    throw invalid('a name in it is not UTF-8', error)
  }
}

function octal (header: Buffer, at: number, length: number): number {
  const field = header.toString('latin1', at, at + length).replace(/[\0 ]+$/, '').trimStart()
  if (!/^[0-7]{1,11}$/.test(field)) throw invalid('a number in a header is not octal')
  return parseInt(field, 8)
}

function sizeOf (header: Buffer, extended: ReadonlyMap<string, string>): number {
  const size = extended.get('size')
  if (size === undefined) return octal(header, 124, 12)
  if (!/^\d{1,12}$/.test(size)) throw invalid('a size in it is no number')
  return Number(size)
}

/** The sum of the header's bytes, with blanks where the sum itself stands. */
function checkSum (header: Buffer): void {
  let sum = 8 * 0x20
  for (let at = 0; at < blockBytes; at++) if (at < 148 || at >= 156) sum += header[at] as number
  if (sum !== octal(header, 148, 8)) throw invalid('a header\'s checksum is wrong: it is no tar archive, or a damaged one')
}

/** pax: lines of `LENGTH name=value`. */
function readRecords (content: Buffer): ReadonlyMap<string, string> {
  const records = new Map<string, string>()
  for (let at = 0; at < content.length;) {
    const length = Number(/^(\d{1,8}) /.exec(content.toString('latin1', at, at + 9))?.[1])
    const record = content.subarray(at, at + length)
    const [name, equals] = [record.indexOf(0x20) + 1, record.indexOf(0x3d)]
    if (!(length > 0) || record.length < length || record.at(-1) !== 0x0a || equals < name) {
      throw invalid('an extended header in it is malformed')
    }
    records.set(utf8(record.subarray(name, equals)), utf8(record.subarray(equals + 1, -1)))
    at += length
  }
  return records
}

/** `opa build` writes a slash at the begin, `tar` a dot: both mean the archive's own root. */
function checkPath (raw: string): string {
  const path = raw.replace(/^\/+/, '').replace(/^(?:\.\/)+/, '').replace(/\/+$/, '')
  const isWhole = path === '' || path === '.'
  if (isWhole && /\/$|^\.$/.test(raw)) return ''
  if (isWhole || Buffer.byteLength(path) > maxPathBytes || /[\p{Cc}\\]/u.test(path)) {
    throw invalid(`it has a path that cannot be used: ${JSON.stringify(raw)}`)
  }
  if (path.split('/').some(part => part === '' || part === '.' || part === '..')) {
    throw invalid(`a path leaves the archive: ${JSON.stringify(raw)}`)
  }
  return path
}

function invalid (rule: string, cause?: unknown): SpiffeError {
  return new SpiffeError('rego_bundle_invalid', `the bundle cannot be read: ${rule}`, { cause })
}
