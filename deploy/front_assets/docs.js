// Starts Swagger UI on the document that the page names. No validator: it lies on the internet.
const place = document.getElementById("docs");
SwaggerUIBundle({ url: place.dataset.openapi, domNode: place, validatorUrl: null, deepLinking: true, persistAuthorization: true });
