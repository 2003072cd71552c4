import { z } from 'zod'
import { optionalText, text } from '../../runtime/config-schema.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { UpstreamPlugin } from '../upstream-plugin.ts'
import { EjbcaUpstream } from './ejbca-upstream.ts'

const schema = z.strictObject({
  hostname: text.regex(/^[\w.-]+(:\d{1,5})?$|^\[[0-9a-f:.]+\](:\d{1,5})?$/i, 'must be a host, or host:port'),
  ca_cert_path: optionalText,
  client_cert_path: optionalText,
  client_cert_key_path: optionalText,
  ca_name: text,
  end_entity_profile_name: text,
  certificate_profile_name: text,
  end_entity_name: optionalText,
  account_binding_id: optionalText
})

/** EJBCA, with SPIRE's keys (spire-surface §7.4). EJBCA need not be there when this server starts with a CA at hand; the files must. */
export const ejbcaUpstreamPlugin: UpstreamPlugin<z.output<typeof schema>> = {
  name: 'ejbca',
  config: schema,
  async start (config, { trustDomain }) {
    const upstream = new EjbcaUpstream({
      host: config.hostname,
      caPath: config.ca_cert_path ?? variable('EJBCA_CA_CERT_PATH'),
      certificatePath: required(config.client_cert_path, 'client_cert_path', 'EJBCA_CLIENT_CERT_PATH'),
      keyPath: required(config.client_cert_key_path, 'client_cert_key_path', 'EJBCA_CLIENT_CERT_KEY_PATH'),
      caName: config.ca_name,
      endEntityProfile: config.end_entity_profile_name,
      certificateProfile: config.certificate_profile_name,
      endEntityName: config.end_entity_name,
      accountBindingId: config.account_binding_id
    }, trustDomain)
    await upstream.readFiles()
    return upstream
  }
}

function required (value: string | undefined, key: string, name: string): string {
  const found = value ?? variable(name)
  if (found === undefined) {
    throw new SpiffeError('config_invalid', `UpstreamAuthority "ejbca": ${key} is required, or ${name} in the environment: EJBCA knows ` +
      'who asks by a client certificate')
  }
  return found
}

function variable (name: string): string | undefined { return process.env[name] || undefined }
