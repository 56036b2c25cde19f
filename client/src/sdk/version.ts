/** Of this client: the appliance may ask for a newer one. As package.json has it. */
export const CLIENT_VERSION = '0.1.0';
