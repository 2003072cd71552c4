import { SpiffeError } from '../spiffe/errors.ts'

/** Strict PEM of RFC 7468: lines of 64, LF, with a final line break. @param label e.g. `CERTIFICATE` */
export function encodePem (label: string, der: Uint8Array): string {
  const lines = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('base64').match(/.{1,64}/g) ?? []
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n')
}

/**
 * The contents of all blocks with this label, in order. Text around blocks and blocks with other labels are passed over.
 * @throws {SpiffeError} `certificate_malformed` for a block without end, with headers, or not in base64; the content is never shown
 */
export function decodePem (text: string, label: string): Uint8Array[] {
  const blocks: Uint8Array[] = []
  let open: { readonly label: string, readonly lines: string[] } | undefined
  for (const [index, line] of text.split(/\r\n|\r|\n/).entries()) {
    const [, edge, name] = /^-----(BEGIN|END) ([^-]*)-----[ \t]*$/.exec(line) ?? []
    if (edge === 'BEGIN') {
      if (open !== undefined) throw malformed(index, `block ${open.label} has no end`)
      open = { label: name as string, lines: [] }
    } else if (edge === 'END') {
      if (open?.label !== name) throw malformed(index, 'end without its beginning')
      if (open?.label === label) blocks.push(decodeBase64(open.lines.join(''), index))
      open = undefined
    } else {
      open?.lines.push(line.trim())
    }
  }
  if (open !== undefined) throw new SpiffeError('certificate_malformed', `PEM block ${open.label} has no end`)
  return blocks
}

function decodeBase64 (text: string, index: number): Uint8Array {
  const bytes = Buffer.from(text, 'base64')
  if (bytes.length === 0 || bytes.toString('base64') !== text) throw malformed(index, 'block is empty or not in base64')
  return new Uint8Array(bytes)
}

function malformed (index: number, rule: string): SpiffeError {
  return new SpiffeError('certificate_malformed', `malformed PEM before line ${index + 1}: ${rule}`)
}
