import { z } from 'zod'
import type { Plugin } from '../../plugins/plugin.ts'
import { writeFileAtomically } from '../../runtime/atomic-file.ts'
import { text } from '../../runtime/config-schema.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { checkRenewal, formatOwnBundle, renewalKeys } from './bundle-format.ts'
import type { BundlePublisher } from './bundle-publisher.ts'

const schema = z.strictObject({ path: text, ...renewalKeys }).check(({ value, issues }) => {
  checkRenewal(value, (key, message) => issues.push({ code: 'custom', path: [key], message, input: undefined }))
})

/** The trust domain's bundle in a file that everybody may read, such as one that a web server has. SPIRE has no such publisher. */
export const filePublisherPlugin: Plugin<BundlePublisher, z.output<typeof schema>, unknown> = {
  name: 'file',
  config: schema,
  async start ({ path, format, refresh_hint: refreshHintSeconds, ttl: ttlSeconds, interval }) {
    const place = {
      name: path, isOfEachServer: true, againMs: interval * 1_000,
      publish: async (now: Parameters<typeof formatOwnBundle>[0]) => {
        const { text } = await formatOwnBundle(now, { format, refreshHintSeconds, ttlSeconds })
        try {
          await writeFileAtomically(path, text, { mode: 0o644 })
        } catch (cause) {
          throw new SpiffeError('file_unusable', `${path} cannot be written: ${(cause as Error).message}`, { cause })
        }
      }
    }
    return { places: [place], [Symbol.asyncDispose]: async () => {} }
  }
}
