import { z } from 'zod'
import { orEnvironment, requiredOrEnvironment } from '../../plugins/from-environment.ts'
import { optionalText, text } from '../../runtime/config-schema.ts'
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
      caPath: orEnvironment(config.ca_cert_path, 'EJBCA_CA_CERT_PATH'),
      // EJBCA knows who asks by a client certificate.
      certificatePath: requiredOrEnvironment(config.client_cert_path, 'client_cert_path', 'EJBCA_CLIENT_CERT_PATH'),
      keyPath: requiredOrEnvironment(config.client_cert_key_path, 'client_cert_key_path', 'EJBCA_CLIENT_CERT_KEY_PATH'),
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
