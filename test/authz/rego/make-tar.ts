import { gzipSync } from 'node:zlib'

export interface TarEntry { readonly path: string, readonly content?: string | Uint8Array, readonly type?: string, readonly size?: number }

/** A gzipped archive of whatever is asked for,
  right or wrong. @param tail behind its last file; the two empty blocks that end an archive */
export function makeTarGz (entries: readonly TarEntry[], tail: Uint8Array = Buffer.alloc(1024)): Buffer {
  return gzipSync(Buffer.concat([...entries.flatMap(entry => {
    const content = Buffer.from(entry.content ?? '')
    return [headerOf(entry, content.length), content, Buffer.alloc((512 - content.length % 512) % 512)]
  }), tail]))
}

function headerOf ({ path, type = '0', size }: TarEntry, length: number): Buffer {
  const header = Buffer.alloc(512)
  header.write(path, 0, 100)
  header.write('0000644\0' + '0000000\0'.repeat(2), 100)
  header.write((size ?? length).toString(8).padStart(11, '0'), 124)
  header.write('00000000000\0        ', 136)
  header.write(type, 156)
  header.write('ustar\u000000', 257)
  header.write(`${header.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, '0')}\0 `, 148)
  return header
}
