import { z } from 'zod'
import { parsedBy } from '../runtime/config-schema.ts'

const letsEncrypt = 'https://acme-v02.api.letsencrypt.org/directory'

/** Of the configuration, wherever a listener may have a CA certify it (spire-surface §6.2, §8.1). */
export const acmeKeys = {
  directory_url: parsedBy(parseHttpsUrl).default(letsEncrypt),
  email: z.string().regex(/^[^\s@]+@[^\s@]+$/, 'must be an address'),
  tos_accepted: z.boolean().default(false).refine(Boolean, 'must be true: the terms of service of the CA have to be accepted')
}

function parseHttpsUrl (url: string): string {
  if (!URL.canParse(url) || !url.startsWith('https://')) throw new Error('must be an https URL')
  return url
}
